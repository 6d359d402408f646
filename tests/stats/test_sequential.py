"""Looking at every attempt: the confidence sequence keeps its promise, Wilson's interval does not."""

import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.intervals import wilson
from accord.stats.sequential import sequential_ends, sequential_interval, sequential_test


def test_evidence_by_hand():
    """One hit: M_1(r) = B(3/2, 1/2) / B(1/2, 1/2) / r = 1 / (2 r), which reaches 20 at r = 0.025."""
    got = sequential_interval(1, 1)
    assert got.low == pytest.approx(0.025)
    assert got.high == 1.0


def test_wider_than_one_look_and_narrowing():
    for hits, n in ((0, 40), (10, 40), (100, 400), (400, 400)):
        got = sequential_interval(hits, n)
        low, high = wilson(hits, n)
        assert got.low <= low
        assert got.high >= high
        assert 0 <= got.low <= hits / n <= got.high <= 1
    assert sequential_interval(1000, 4000).high < sequential_interval(100, 400).high


@pytest.mark.parametrize("rate", [0.02, 0.2, 0.5])
def test_peeking_at_every_n(rate):
    """600 runs of 300 attempts: ever excluded by the sequence in at most 5 % (and chance), by Wilson in far more."""
    hits = np.cumsum(np.random.default_rng(7).random((600, 300)) < rate, axis=1)
    n = np.arange(1, 301)
    table = {k: i for i, k in enumerate({(int(h), int(m)) for row in hits for h, m in zip(row, n, strict=True)})}
    keys = np.array(list(table))
    low, high = sequential_ends(keys[:, 0], keys[:, 1])
    out = (low > rate) | (high < rate)
    ends = np.array([wilson(h, m) for h, m in keys.tolist()])
    out_wilson = (ends[:, 0] > rate) | (ends[:, 1] < rate)
    where = np.array([[table[int(h), int(m)] for h, m in zip(row, n, strict=True)] for row in hits])
    ever, ever_wilson = out[where].any(1).mean(), out_wilson[where].any(1).mean()
    assert ever <= 0.05 + 2 * (0.05 * 0.95 / 600) ** 0.5
    assert ever_wilson > 0.2


def test_against_a_limit():
    assert sequential_test(0, 20, 0.05).verdict == "open"
    below = sequential_test(0, 200, 0.05)
    assert below.verdict == "below"
    assert below.p_below < 0.05
    assert below.p_above == 1.0
    assert below.interval.high < 0.05
    assert sequential_test(40, 200, 0.05).verdict == "above"
    assert sequential_test(0, 0, 0.05).verdict == "open"


def test_impossible_input_is_refused():
    with pytest.raises(DataError):
        sequential_interval(3, 2)
    with pytest.raises(DataError):
        sequential_test(1, 2, 0.0)
    assert sequential_interval(0, 0).value is None
