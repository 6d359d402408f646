"""Correlation within groups: by hand, against Fisher's interval of one group, and where there is nothing to correlate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.correlation import correlation_within


def test_by_hand():
    """Group a: x -1, 1, y -1, 1; group b, far away: x -1, 1, y 1, -1; group c: x -2, 2, y -2, 2. (1 + 1 - 2 + 8) / 12 = 2/3."""
    x, y = [0, 2, 100, 102, 5, 9], [10, 12, 3, 1, 0, 4]
    e = correlation_within(x, y, list("aabbcc"))
    assert e.value == pytest.approx(8 / 12)
    assert e.n == 6
    # df = 6 - 3 = 3: half of the interval is z / 1 in Fisher's scale.
    assert e.low == pytest.approx(math.tanh(math.atanh(2 / 3) - 1.959964), abs=1e-6)
    assert e.high == pytest.approx(math.tanh(math.atanh(2 / 3) + 1.959964), abs=1e-6)


def test_one_group_is_fishers_own():
    rng = np.random.default_rng(0)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    e = correlation_within(x, y, ["g"] * 30)
    assert e.value == pytest.approx(np.corrcoef(x, y)[0, 1])
    half = 1.959964 / math.sqrt(27)
    assert e.high == pytest.approx(math.tanh(math.atanh(e.value) + half), abs=1e-6)


def test_what_differs_between_groups_alone_does_not_count():
    e = correlation_within([1, 1, 9, 9], [2, 2, 7, 7], list("aabb"))
    assert e.value is None
    assert "no spread" in e.method


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few(n):
    e = correlation_within(range(n), range(n), ["g"] * n)
    assert e.low is None
    assert e.n == n or e.value is None


def test_lengths_must_agree():
    with pytest.raises(DataError, match="as many"):
        correlation_within([1], [1, 2], ["a"])


@given(
    st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9), st.sampled_from("abc")), min_size=8, max_size=20),
    st.floats(1, 5),
)
def test_scale_and_shift_do_not_matter(rows, factor):
    x, y, g = zip(*rows, strict=True)
    plain, moved = correlation_within(x, y, g), correlation_within([factor * v + 3 for v in x], y, g)
    if plain.value is not None and moved.value is not None and np.std(x) > 0.1 and np.std(y) > 0.1:
        assert moved.value == pytest.approx(plain.value, abs=1e-6)
        assert -1 <= plain.value <= 1
