import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.paired import mcnemar_exact
from accord.stats.sample_size import detectable_paired, detectable_unpaired, size_paired, size_unpaired


def test_unpaired_by_hand():
    """0.5 against 0.3: m = 0.4; (1.95996 sqrt(0.48) + 0.84162 sqrt(0.25 + 0.21))^2 / 0.04 = (1.35790 + 0.57081)^2 / 0.04 = 93.0."""
    assert size_unpaired(0.5, 0.3) == 93
    assert size_unpaired(0.3, 0.5) == 93
    assert size_unpaired(0.5, 0.7) == 93


def test_paired_by_hand():
    """d = 0.1 of discordance 0.2: (1.95996 sqrt(0.2) + 0.84162 sqrt(0.19))^2 / 0.01 = (0.87652 + 0.36685)^2 / 0.01 = 154.6."""
    assert size_paired(0.1, 0.2) == 155
    assert size_paired(-0.1, 0.2) == 155


def test_the_detectable_difference_needs_just_that_size():
    d = detectable_unpaired(0.1, 200)
    assert size_unpaired(0.1, 0.1 + d + 1e-6) <= 200 < size_unpaired(0.1, 0.1 + d - 1e-3)
    assert detectable_unpaired(0.9, 200) == pytest.approx(d, abs=1e-6)
    d = detectable_paired(0.2, 155)
    assert d == pytest.approx(0.1, abs=1e-3)
    assert detectable_unpaired(0.5, 2) is None
    assert detectable_paired(0.05, 3) is None


def test_the_power_is_what_was_asked_for():
    """McNemar's exact test on 250 discordance pairs; exactness costs a little power, so a little under 80 % is right."""
    n = size_paired(0.1, 0.2)
    draws = np.random.default_rng(0).multinomial(n, [0.15, 0.05, 0.8], size=2000)
    found = np.mean([mcnemar_exact(int(a), int(b)) <= 0.05 for a, b, _ in draws])
    assert 0.70 < found < 0.82


@pytest.mark.parametrize("call", [
    lambda: size_unpaired(0.2, 0.2), lambda: size_unpaired(-0.1, 0.2), lambda: size_unpaired(0.1, 0.2, alpha=5),
    lambda: size_paired(0.3, 0.2), lambda: size_paired(0.0, 0.2), lambda: detectable_paired(0.0, 10),
])  # fmt: skip
def test_impossible_questions_are_refused(call):
    with pytest.raises(DataError):
        call()
