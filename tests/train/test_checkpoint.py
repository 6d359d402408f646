"""What a checkpoint brings back beside the weights."""

import torch
from torch import nn

from accord.train import checkpoint


def test_the_gpus_random_state_is_taken_up_where_there_is_a_gpu(tmp_path, monkeypatch):
    """Without one here: the calls are looked at."""
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight])
    taken_up = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", taken_up.append)
    position = checkpoint.Position(token_budget=7)
    checkpoint.save(tmp_path, position, [weight], optimizer)
    with monkeypatch.context() as gpu:
        gpu.setattr(torch.cuda, "is_available", lambda: True)
        checkpoint.load(tmp_path, 7, [weight], optimizer)
        assert taken_up == []
        gpu.setattr(torch.cuda, "get_rng_state", lambda: torch.tensor([3, 1], dtype=torch.uint8))
        checkpoint.save(tmp_path, position, [weight], optimizer)
        checkpoint.load(tmp_path, 7, [weight], optimizer)
        assert [state.tolist() for state in taken_up] == [[3, 1]]
    checkpoint.load(tmp_path, 7, [weight], optimizer)
    assert len(taken_up) == 1
