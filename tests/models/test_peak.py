import torch

from accord.models.peak import matrix_peak


def test_the_peak_is_at_least_what_one_product_shows():
    device = torch.device("cpu")
    peak = matrix_peak(torch.float32, device)
    assert 1e9 < peak < 1e14
    assert matrix_peak(torch.float32, device) == peak  # timed once
