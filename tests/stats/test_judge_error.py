"""Correction for a judge's error: by hand, at the borders, and by simulation (the whole one is benchmarks/interval_coverage.py)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.judge_error import JudgeError, corrected_interval, rogan_gladen, rogan_gladen_clustered
from accord.stats.prediction_powered import Moments, powered_interval, powered_mean, prediction_powered_rate, tune

JUDGE = JudgeError(90, 100, 5, 100)


def test_rogan_gladen_by_hand():
    """Rate 30/100, sensitivity 0.9, specificity 0.95: (0.30 - 0.05) / (0.9 + 0.95 - 1) = 0.25 / 0.85."""
    got = rogan_gladen(30, 100, JUDGE, {"judge_refused": 2})
    assert got.value == pytest.approx(0.25 / 0.85)
    assert got.low < got.value < got.high
    assert (got.n, got.n_unscored) == (100, 2)


def test_a_well_known_judge_without_error_gives_the_binomial_interval():
    """0 of 40: Clopper and Pearson's upper limit, 1 - 0.025^(1/40) = 0.0881."""
    got = rogan_gladen(0, 40, JudgeError(10**6, 10**6, 0, 10**6))
    assert (got.value, got.low) == (0.0, 0.0)
    assert got.high == pytest.approx(1 - 0.025 ** (1 / 40), abs=1e-4)


def test_the_calibrations_uncertainty_widens_the_interval():
    many, few = (rogan_gladen(60, 200, JudgeError(0.9 * m, m, 0.05 * m, m)) for m in (5000, 40))
    assert few.high - few.low > 1.3 * (many.high - many.low)


def test_swapping_hits_and_misses_mirrors_the_interval():
    one = rogan_gladen(30, 100, JUDGE)
    other = rogan_gladen(70, 100, JudgeError(95, 100, 10, 100))
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low), abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20))
def test_never_zero_width_and_never_outside(hits, a, c):
    got = rogan_gladen(hits, 60, JudgeError(a, 20, c, 20))
    if a <= c:
        assert got.value is None
        assert "undefined" in got.method
    else:
        assert 0 <= got.low <= got.value <= got.high <= 1
        assert got.high - got.low > 0.01


def test_undefined_and_hardly_identified_are_said():
    assert "<= 1" in rogan_gladen(3, 10, JudgeError(5, 10, 6, 10)).method
    assert "may be 1" in rogan_gladen(3, 10, JudgeError(6, 10, 4, 10)).method
    assert "both classes" in rogan_gladen(3, 10, JudgeError(6, 10, 0, 0)).method
    none = rogan_gladen(0, 0, JUDGE, {"empty": 4})
    assert (none.value, none.low, none.n, none.n_unscored) == (None, None, 0, 4)


def test_fewer_hits_than_false_alarms_is_said():
    got = rogan_gladen(0, 2000, JudgeError(190, 200, 200, 1000))
    assert got.value == 0
    assert got.high > 0.005
    assert "clipped" in got.method


def test_impossible_counts_are_refused():
    with pytest.raises(DataError, match="impossible"):
        JudgeError(11, 10, 0, 10)
    with pytest.raises(DataError, match="impossible"):
        rogan_gladen(11, 10, JUDGE)


def test_families_widen_and_single_ones_do_not():
    hits = [i % 4 == 0 for i in range(80)]
    alone = rogan_gladen_clustered(hits, [str(i) for i in range(80)], JUDGE)
    plain = rogan_gladen(20, 80, JUDGE)
    assert (alone.low, alone.high) == (plain.low, plain.high)
    together = rogan_gladen_clustered(sorted(hits), [str(i // 8) for i in range(80)], JUDGE)
    assert together.high - together.low > 1.5 * (plain.high - plain.low)


def test_ppi_by_hand():
    """Labels 1 1 0 0, judge 1 0 0 0, rest 1 0 1 0: cov = 1/4 - 1/2 x 1/4 = 1/8; var(f) with half a row in each corner:
    f = ff = (1 + 1) / 6 = 1/3, so 2/9; weight = (1/8) / (2 x 2/9) = 9/32; mean = 1/2 - 9/32 x (1/4 - 1/2) = 0.5703125.
    """
    got = powered_mean([1, 1, 0, 0], [1, 0, 0, 0], [1, 0, 1, 0])
    assert got.weight == pytest.approx(9 / 32)
    assert got.value == pytest.approx(0.5703125)


def test_ppi_a_useless_judge_gives_the_labels_alone():
    labels = [1.0, 0.0] * 20
    got = powered_mean(labels, [1.0, 1.0, 0.0, 0.0] * 10, [0.5] * 200)
    assert (got.value, got.weight) == (0.5, 0.0)
    assert got.effective_n == pytest.approx(40)


def test_ppi_a_good_judge_is_worth_labels():
    rng = np.random.default_rng(1)
    truth = rng.random(2200) < 0.3
    said = np.where(rng.random(2200) < 0.95, truth, ~truth).astype(float)
    got = prediction_powered_rate(truth[:200].astype(float), said[:200], said[200:])
    alone = prediction_powered_rate(truth[:200].astype(float), said[:200], [])
    assert got.high - got.low < 0.75 * (alone.high - alone.low)
    assert got.low < truth.mean() < got.high
    assert got.n == 200


def test_ppi_borders():
    got = prediction_powered_rate([0.0] * 30, [0.0] * 30, [0.0] * 300)
    assert (got.value, got.low) == (0.0, 0.0)
    assert got.high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert prediction_powered_rate([], [], [1.0]).value is None
    with pytest.raises(DataError, match="between 0 and 1"):
        prediction_powered_rate([2.0], [0.0], [])
    with pytest.raises(DataError, match="one each"):
        prediction_powered_rate([1.0], [], [])


def test_ppi_families_widen():
    labels = [1.0] * 40 + [0.0] * 40
    families = [str(i // 8) for i in range(80)]
    alone = prediction_powered_rate(labels, labels, [])
    together = prediction_powered_rate(labels, labels, [], families)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


@pytest.mark.parametrize("n", [20, 60])
def test_coverage_of_corrected_intervals(n):
    rng = np.random.default_rng(n)
    rates, means = (0.0, 0.02, 0.3, 0.7, 0.98), []
    for sensitivity, specificity in ((0.9, 0.95), (0.7, 0.8)):
        for rate in rates:
            p = rate * sensitivity + (1 - rate) * (1 - specificity)
            columns = rng.binomial([[n], [100], [100]], [[p], [sensitivity], [1 - specificity]], (3, 300))
            rows, times = np.unique(columns.T, axis=0, return_counts=True)
            low, high = corrected_interval(rows[:, 0], n, rows[:, 1], 100, rows[:, 2], 100)
            held = float(times @ ((low <= rate + 1e-9) & (rate <= high + 1e-9)) / times.sum())
            assert held > 0.90
            assert (high > low).all()
            means.append(held)
    assert 0.94 <= np.mean(means) <= 0.98


@pytest.mark.parametrize("n", [20, 50, 300])
def test_coverage_of_prediction_powered_intervals(n):
    rng = np.random.default_rng(n)
    means = []
    for rate in (0.0, 0.01, 0.05, 0.3, 0.5, 0.9, 0.99, 1.0):
        table = (rate * 0.8, rate * 0.2, (1 - rate) * 0.1, (1 - rate) * 0.9)
        both, y_only, f_only, _ = (rng.multinomial(n, table, size=1500) / n).T
        rest = rng.binomial(4 * n, rate * 0.8 + (1 - rate) * 0.1, 1500) / (4 * n)
        found = tune(Moments(both + y_only, both + f_only, both + y_only, both + f_only, both, rest), n, 4 * n)
        variance = found.of_difference / n + found.weight**2 * found.of_f / (4 * n)
        low, high = powered_interval(found.value, found.of_y / variance)
        held = float(np.mean((low <= rate + 1e-9) & (rate <= high + 1e-9)))
        assert held > 0.92
        assert (high > low).all()
        means.append(held)
    assert 0.94 <= np.mean(means) <= 0.985
