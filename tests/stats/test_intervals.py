import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from accord.errors import DataError
from accord.stats import macro_mean, mean, micro_mean, proportion, rank, win_rate, worst_case_bounds


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 40, 0.0, 0.0876), (40, 40, 0.9124, 1.0), (1, 1, 0.2065, 1.0), (5, 10, 0.2366, 0.7634)],
)
def test_stats_01_zero_width_interval(hits, n, low, high):
    """0/40: z^2 / (n + z^2) = 3.8415 / 43.8415 = 0.0876. 5/10: 0.5 ± z sqrt(0.25/10 + z^2/400) / (1 + z^2/10)."""
    estimate = proportion(hits, n)
    assert estimate.value == hits / n
    assert estimate.low == pytest.approx(low, abs=5e-5)
    assert estimate.high == pytest.approx(high, abs=5e-5)
    assert estimate.high > estimate.low


def test_stats_01_zero_of_zero_is_not_measured():
    estimate = proportion(0, 0, {"judge timed out": 3})
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (None, None, None, 0)
    assert estimate.method == "not measured"
    assert estimate.n_unscored == 3


def test_stats_01_gate_on_the_upper_bound_fails_without_a_hit():
    assert proportion(0, 40).high > 0.05


@given(st.integers(0, 300), st.integers(1, 300))
def test_proportion_holds_its_value_and_mirrors(hits, extra):
    n = hits + extra
    one, other = proportion(hits, n), proportion(n - hits, n)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.low < one.high
    assert one.low == pytest.approx(1 - other.high)


@pytest.mark.parametrize(("hits", "n"), [(2, 1), (-1, 3), (0, -1)])
def test_proportion_refuses_impossible_counts(hits, n):
    with pytest.raises(DataError, match="impossible counts"):
        proportion(hits, n)


def test_confidence_as_a_percentage_is_refused():
    with pytest.raises(DataError, match=r"95 % is written 0\.95"):
        proportion(1, 2, confidence=95)


def test_worst_case_bounds():
    """2 hits of 6 and 4 unscored: between 2/10 and 6/10."""
    assert worst_case_bounds(2, 6, 4) == (0.2, 0.6)
    assert worst_case_bounds(0, 0, 5) == (0.0, 1.0)
    assert worst_case_bounds(0, 0, 0) is None
    with pytest.raises(DataError):
        worst_case_bounds(3, 2, 0)


def test_mean_by_hand():
    """1, 2, 3: mean 2, s = 1, t(2) = 4.3027, half width 4.3027 / sqrt(3) = 2.4841."""
    estimate = mean([1, 2, 3])
    assert estimate.value == 2
    assert (estimate.low, estimate.high) == (pytest.approx(2 - 2.4841, abs=1e-4), pytest.approx(2 + 2.4841, abs=1e-4))
    clipped = mean([1, 2, 3], bounds=(0, 4))
    assert (clipped.low, clipped.high) == (0, 4)


def test_mean_of_none_one_and_equal_values_has_no_interval():
    assert (mean([]).value, mean([], {"empty": 2}).n_unscored) == (None, 2)
    one = mean([0.3])
    assert (one.value, one.low, one.high) == (0.3, None, None)
    equal = mean([0.1] * 7)
    assert equal.value == pytest.approx(0.1)
    assert (equal.low, equal.high) == (None, None)
    assert "no interval" in equal.method


def test_mean_refuses_nan():
    with pytest.raises(DataError, match="unscored"):
        mean([1.0, math.nan])


def groups():
    return {"A": [1] * 5 + [0] * 5, "B": [1] * 900 + [0] * 100}


def test_stats_03_group_mean_with_wrong_stderr():
    """se_A = sqrt(0.25/9), se_B = sqrt(0.09/999); macro 0.70 ± 0.5 sqrt(se_A^2 + se_B^2) = 0.0835; micro 0.0095."""
    macro, micro = macro_mean(groups()), micro_mean(groups())
    assert macro.estimate.value == pytest.approx(0.70)
    assert macro.stderr == pytest.approx(0.0835, abs=5e-5)
    assert micro.estimate.value == pytest.approx(905 / 1010)
    assert micro.stderr == pytest.approx(0.0095, abs=5e-5)
    assert macro.estimate.method.startswith("macro")
    assert micro.estimate.method.startswith("micro")
    assert macro.n_by_group == micro.n_by_group == {"A": 10, "B": 1000}
    assert macro.estimate.high - macro.estimate.low > 5 * (micro.estimate.high - micro.estimate.low)


def test_macro_mean_of_measured_values_by_hand():
    """A = 0, 2 (mean 1, se 1); B = 4, 8 (mean 6, se 2): 3.5, se sqrt(5)/2; Welch df = 5^2 / (1 + 16) = 1.47."""
    result = macro_mean({"A": [0, 2], "B": [4, 8]})
    assert result.estimate.value == 3.5
    assert result.stderr == pytest.approx(math.sqrt(5) / 2)
    assert "Welch" in result.estimate.method
    half = distributions.t.ppf(0.975, 25 / 17) * math.sqrt(5) / 2
    assert (result.estimate.low, result.estimate.high) == (pytest.approx(3.5 - half), pytest.approx(3.5 + half))


def test_macro_mean_of_groups_without_hits_is_not_certain():
    """Both groups 0/40: half of sqrt(2 * 0.0876^2) = 0.0620."""
    result = macro_mean({"A": [0] * 40, "B": [0] * 40})
    assert (result.estimate.value, result.estimate.low, result.stderr) == (0, 0, 0)
    assert result.estimate.high == pytest.approx(0.0620, abs=5e-5)


def test_one_group_is_its_own_mean():
    values = [1, 0, 0, 1, 0]
    plain = proportion(2, 5)
    for result in (macro_mean({"A": values}), micro_mean({"A": values})):
        assert result.estimate.value == pytest.approx(0.4)
        assert (result.estimate.low, result.estimate.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


def test_group_means_of_nothing_one_and_equal():
    assert macro_mean({}).estimate.value is None
    assert micro_mean({"A": [], "B": []}).estimate.value is None
    missing = macro_mean({"A": [1, 0], "fraud": []})
    assert missing.estimate.value is None
    assert "fraud" in missing.estimate.method
    filled = micro_mean({"A": [1, 0], "fraud": []})
    assert filled.estimate.value == 0.5
    assert filled.n_by_group["fraud"] == 0
    single = macro_mean({"A": [0.5], "B": [0.1, 0.2]})
    assert (single.estimate.value, single.stderr, single.estimate.low) == (pytest.approx(0.325), None, None)
    equal = macro_mean({"A": [0.5, 0.5], "B": [0.1, 0.1]})
    assert (equal.stderr, equal.estimate.low) == (0, None)


def test_stats_05_win_rate_without_ties():
    """A 10/80/10: (10 + 40)/100 = 0.5. B 20/0/80: 0.2 and margin -0.6. C has played nothing and comes last."""
    records = {"C": win_rate(0, 0, 0), "B": win_rate(20, 0, 80), "A": win_rate(10, 80, 10)}
    a, b, c = records["A"], records["B"], records["C"]
    assert (a.adjusted_win_rate, b.adjusted_win_rate) == (0.5, 0.2)
    assert (a.win_share, b.win_share) == (0.1, 0.2)
    assert (a.margin, b.margin) == (0.0, -0.6)
    assert a.win_share + a.tie_share + a.loss_share == pytest.approx(1)
    assert (c.adjusted_win_rate, c.win_share, c.tie_share, c.loss_share, c.margin) == (None,) * 5
    assert c.adjusted.method == "no games"
    assert [name for name, _ in rank(records)] == ["A", "B", "C"]
    assert json.loads(json.dumps(c.adjusted_win_rate)) is None


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_swapping_sides_flips_the_win_rate(wins, ties, losses):
    one, other = win_rate(wins, ties, losses), win_rate(losses, ties, wins)
    assert one.adjusted_win_rate == pytest.approx(1 - other.adjusted_win_rate)
    assert one.adjusted.low < one.adjusted.high
    assert one.adjusted.low == pytest.approx(1 - other.adjusted.high)


def test_win_rate_refuses_negative_counts():
    with pytest.raises(DataError):
        win_rate(1, -1, 0)
