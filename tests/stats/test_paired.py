import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats import mcnemar_exact, newcombe_paired, paired_difference
from accord.stats.paired import macro_difference
from accord.types import Estimate


def singles(n):
    return [f"f{i}" for i in range(n)]


def test_paired_difference_by_hand():
    """100 prompts: 10 both, 30 only before, 5 only after, 55 neither: 0.15 - 0.40 = -0.25.

    A bootstrap of independent pairs has sd sqrt((35 - 25^2/100) / 100^2) = 0.0536.
    McNemar exact: 2 P(X <= 5), X ~ B(35, 1/2).
    """
    before = [True] * 40 + [False] * 60
    after = [True] * 10 + [False] * 30 + [True] * 5 + [False] * 55
    result = paired_difference(before, after, singles(100))
    assert (result.both, result.only_before, result.only_after, result.neither) == (10, 30, 5, 55)
    assert result.difference.value == pytest.approx(-0.25)
    assert (result.before, result.after) == (0.4, 0.15)
    assert result.difference.low < -0.25 < result.difference.high < 0
    half = (result.difference.high - result.difference.low) / 2
    assert half == pytest.approx(1.96 * 0.0536, abs=0.01)
    assert result.p_value == pytest.approx(2 * sum(math.comb(35, k) for k in range(6)) / 2**35)


def test_not_assessed_is_left_out_and_counted():
    result = paired_difference([True, None, False, True], [None, True, True, False], singles(4))
    assert (result.n, result.n_left_out) == (2, 2)
    assert result.difference.n_unscored == 2
    assert result.difference.value == 0
    assert (result.only_before, result.only_after) == (1, 1)


def test_nothing_to_compare():
    for before, after in ([], []), ([None] * 3, [True] * 3), ([None] * 2, [None] * 2):
        result = paired_difference(before, after, singles(len(before)))
        assert (result.difference.value, result.difference.low, result.p_value) == (None, None, None)
        assert result.difference.method == "not measured"
        assert result.n_left_out == len(before)


def test_no_change_at_all_is_not_certainty():
    """0/40 before and after: phi = 0, and each end is the root of 0^2 + 0.0876^2: ±0.0876."""
    result = paired_difference([False] * 40, [False] * 40, singles(40))
    assert result.difference.value == 0
    assert result.difference.high == pytest.approx(0.0876, abs=5e-5)
    assert result.difference.low == pytest.approx(-0.0876, abs=5e-5)
    assert result.p_value == 1


def test_every_prompt_changed():
    """All 40 hits lost: difference -1, and its upper end is -1 + sqrt(2) * 0.0876."""
    result = paired_difference([True] * 40, [False] * 40, singles(40))
    assert (result.difference.value, result.difference.low) == (-1, -1)
    assert result.difference.high == pytest.approx(-1 + math.sqrt(2) * 0.08762, abs=1e-4)


def test_newcombe_without_correlation_is_the_root_of_squares():
    """12 both, 12 lost, 12 gained, 12 neither: ad - bc = 0, so 0 ± sqrt(2) * (0.5 - Wilson low of 24/48)."""
    low, high = newcombe_paired(12, 12, 12, 12)
    z2 = 3.841459
    wilson_half = math.sqrt(z2) * math.sqrt(0.25 / 48 + z2 / (4 * 48**2)) / (1 + z2 / 48)
    assert high == pytest.approx(math.sqrt(2) * wilson_half, rel=1e-5)
    assert low == pytest.approx(-high)


def test_newcombe_narrows_when_pairs_agree():
    agreeing = newcombe_paired(22, 2, 2, 22)
    independent = newcombe_paired(12, 12, 12, 12)
    assert agreeing[1] - agreeing[0] < independent[1] - independent[0]


def test_one_family_is_wide():
    many = paired_difference([True] * 40, [False] * 20 + [True] * 20, singles(40))
    one = paired_difference([True] * 40, [False] * 20 + [True] * 20, ["same"] * 40)
    assert one.difference.high - one.difference.low > 2 * (many.difference.high - many.difference.low)


verdicts = st.sampled_from([True, False, None])


@settings(deadline=None)  # the disk or a loaded machine may be slow
@given(st.lists(st.tuples(verdicts, verdicts, st.sampled_from("abcdefghijklmno")), max_size=40))
def test_swapping_before_and_after_flips_the_sign_and_width_is_never_zero(rows):
    before, after, families = ([row[i] for row in rows] for i in range(3))
    one = paired_difference(before, after, families, n_boot=200)
    other = paired_difference(after, before, families, n_boot=200)
    if one.n == 0:
        assert one.difference.value is None
        return
    assert one.difference.value == -other.difference.value
    assert one.difference.low < one.difference.high
    assert one.difference.low - 1e-9 <= one.difference.value <= one.difference.high + 1e-9 or one.n_families >= 10
    assert one.difference.low == pytest.approx(-other.difference.high)
    assert one.p_value == other.p_value


def test_mcnemar_by_hand():
    """1 lost, 5 gained: 2 (1 + 6) / 2^6 = 0.21875."""
    assert mcnemar_exact(1, 5) == pytest.approx(0.21875)
    assert mcnemar_exact(3, 3) == 1
    assert mcnemar_exact(0, 0) == 1


def test_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="in the same order"):
        paired_difference([True], [True, False], ["a"])
    with pytest.raises(DataError):
        newcombe_paired(0, 0, 0, 0)
    with pytest.raises(DataError):
        newcombe_paired(-1, 2, 0, 0)


def test_a_macro_difference_joins_the_groups_intervals_by_hand():
    """(0.5 + 0.1) / 2 = 0.3, from 0.3 - sqrt(0.3^2 + 0.4^2) / 2 = 0.05 to 0.3 + sqrt(0.6^2 + 0.8^2) / 2 = 0.8."""
    groups = [Estimate(0.5, 0.2, 1.1, 4, ""), Estimate(0.1, -0.3, 0.9, 9, "")]
    got = macro_difference(groups, span=1.0)
    assert (got.value, got.low, got.high, got.n) == (pytest.approx(0.3), pytest.approx(0.05), pytest.approx(0.8), 13)
    assert macro_difference(groups, span=0.7).high == 0.7
    assert macro_difference(groups[:1], span=2.0).high == pytest.approx(1.1)
    assert macro_difference([], span=1.0).value is None
    assert macro_difference([groups[0], Estimate(None, None, None, 0, "")], span=1.0).value is None
