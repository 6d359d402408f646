import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats import cluster_bootstrap, clustered_proportion, effective_size, proportion
from accord.stats.bootstrap import bootstrap_replicates, few_families_factor


def rng():
    return np.random.default_rng(0)


def test_replicates_match_resampling_by_hand():
    """Two families, sums 2 of 2 and 0 of 1: a resample is (2,2) -> 1, (2,0) -> 2/3 or (0,0) -> 0, at 1/4, 1/2, 1/4."""
    replicates = bootstrap_replicates([1, 1, 0], ["a", "a", "b"], rng(), n_boot=4000)
    values, counts = np.unique(replicates.round(6), return_counts=True)
    assert values == pytest.approx([0, 2 / 3, 1], abs=1e-6)
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_bootstrap_interval_is_that_of_the_families_standard_error():
    """50 families of 4 equal verdicts, half hits: sd of the mean is 0.5/sqrt(50) = 0.0707, not 0.5/sqrt(200)."""
    values = [float(i % 2) for i in range(50) for _ in range(4)]
    families = [f"f{i}" for i in range(50) for _ in range(4)]
    estimate = cluster_bootstrap(values, families, rng(), n_boot=4000)
    assert estimate.value == 0.5
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * 0.0707, abs=0.02)
    assert estimate == cluster_bootstrap(values, families, rng(), n_boot=4000)


def test_bootstrap_that_cannot_vary_gives_no_interval():
    for values, families in [([0, 0, 0], ["a", "b", "c"]), ([0, 1, 1], ["a", "a", "a"]), ([1], ["a"])]:
        estimate = cluster_bootstrap(values, families, rng())
        assert (estimate.low, estimate.high) == (None, None)
        assert "no interval" in estimate.method
    assert cluster_bootstrap([], [], rng(), unscored={"error": 4}).value is None


def test_bootstrap_in_chunks_draws_the_same(monkeypatch):
    values, families = [1.0, 0.0, 1.0, 0.0], ["a", "b", "c", "d"]
    whole = bootstrap_replicates(values, families, rng(), n_boot=50)
    monkeypatch.setattr("accord.stats.bootstrap._CELLS_AT_ONCE", 12)
    assert bootstrap_replicates(values, families, rng(), n_boot=50).tolist() == whole.tolist()


def test_bootstrap_refuses_wrong_input():
    with pytest.raises(DataError, match="one family a value"):
        bootstrap_replicates([1.0], ["a", "b"], rng())
    with pytest.raises(DataError, match="finite"):
        bootstrap_replicates([np.nan], ["a"], rng())
    with pytest.raises(DataError):
        clustered_proportion([True], [])


def test_effective_size_by_hand():
    """20 families of 5, all 5 hits in one: p = 0.05, residual sums 4.75 and 19 of -0.25.

    v_families = 20/19 (4.75^2 + 19 * 0.0625) / 100^2 = 0.0025; v_independent = 0.0475/99; deff = 5.2105.
    """
    hits = [True] * 5 + [False] * 95
    families = [str(i // 5) for i in range(100)]
    size = effective_size(hits, families)
    assert size.design_effect == pytest.approx(0.0025 / (0.0475 / 99))
    assert size.n_families == 20
    assert size.n == pytest.approx(100 / size.design_effect * (1.9842 / 2.0930) ** 2, rel=1e-3)


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_one_prompt_a_family_is_plain_wilson(hits):
    clustered = clustered_proportion(hits, [str(i) for i in range(len(hits))])
    plain = proportion(sum(hits), len(hits))
    assert clustered.value == pytest.approx(plain.value)
    assert (clustered.low, clustered.high) == (pytest.approx(plain.low), pytest.approx(plain.high))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=60))
def test_families_never_narrow_the_interval_nor_close_it(rows):
    hits, families = [h for h, _ in rows], [f for _, f in rows]
    clustered = clustered_proportion(hits, families)
    plain = proportion(sum(hits), len(hits))
    assert 0 <= clustered.low < clustered.high <= 1
    assert clustered.low - 1e-9 <= clustered.value <= clustered.high + 1e-9
    assert clustered.high - clustered.low >= plain.high - plain.low - 1e-9


def test_copies_of_one_family_are_one_observation():
    estimate = clustered_proportion([True] * 100, ["same"] * 100)
    one = proportion(1, 1)
    assert (estimate.low, estimate.high, estimate.n) == (pytest.approx(one.low), 1.0, 100)


def test_clustered_proportion_at_the_borders_and_of_nothing():
    families = [str(i // 2) for i in range(40)]
    for verdict in (True, False):
        estimate = clustered_proportion([verdict] * 40, families)
        assert estimate.high - estimate.low > 0.08
        assert "20 families" in estimate.method
    nothing = clustered_proportion([], [], {"garbled": 9})
    assert (nothing.value, nothing.low, nothing.n_unscored, nothing.method) == (None, None, 9, "not measured")


def test_few_families_factor():
    assert few_families_factor(10, 10) == 1
    assert few_families_factor(10, 1) == 0.1
    assert few_families_factor(100, 2) == pytest.approx((1.9842 / 12.7062) ** 2, rel=1e-3)


def test_coverage_with_clusters():
    """95 % intervals of a rate of 0.2 with families of 4 that agree hold it in about 95 % of samples; plain do not."""
    generator, held, plain_held = np.random.default_rng(1), 0, 0
    for _ in range(400):
        hits = np.repeat(generator.random(40) < 0.2, 4)
        families = [str(i // 4) for i in range(160)]
        clustered = clustered_proportion(hits.tolist(), families)
        plain = proportion(int(hits.sum()), 160)
        held += clustered.low <= 0.2 <= clustered.high
        plain_held += plain.low <= 0.2 <= plain.high
    assert held / 400 > 0.92
    assert plain_held / 400 < 0.8
