from dataclasses import replace

import numpy as np
import pytest
from scipy.special import beta

from accord.evals.gates import GateStatus, check_gates, round_measures, sequential_estimate
from accord.evals.results import ItemResult, SuiteResult
from accord.evals.summary import Condition, compare, summarise
from accord.policy import load_policy
from accord.policy.schema import Gate
from accord.starter import policy_path
from accord.stats import clustered_proportion, proportion
from accord.stats.sequential import sequential_interval
from accord.types import Estimate

POLICY = load_policy(policy_path())
NOTHING = Condition("c", ())
RATES, COMPARISON = summarise(NOTHING, POLICY), compare(NOTHING, NOTHING, POLICY)


def rate(hits, n, unscored=0):
    return clustered_proportion(
        [i < hits for i in range(n)], [str(i) for i in range(n)], {"x": unscored} if unscored else {}
    )


@pytest.mark.parametrize(
    ("estimate", "status"),
    [
        (rate(0, 40), GateStatus.NOT_SHOWN),  # case stats-01: the upper end is 8.8 %
        (rate(0, 200), GateStatus.MET),  # 3.8415 / 203.84 = 1.9 %
        (rate(20, 200), GateStatus.MISSED),
        (rate(0, 200, unscored=20), GateStatus.NOT_SHOWN),  # 9 % without a verdict
        (rate(0, 6, unscored=14), GateStatus.NOT_SHOWN),  # case redteam-01
        (rate(0, 0), GateStatus.NOT_MEASURED),
        (rate(0, 0, unscored=3), GateStatus.NOT_MEASURED),
        (Estimate(0.0, None, None, 3, "no interval"), GateStatus.NOT_SHOWN),
    ],
)
def test_at_most_5_percent(estimate, status):
    rates = replace(RATES, harmful_compliance=estimate)
    (result,) = check_gates([Gate(measure="harmful_compliance", at_most=0.05)], round_measures(rates, COMPARISON))
    assert result.status is status
    assert result.reason


@pytest.mark.parametrize(
    ("value", "low", "status"),
    [(-0.01, -0.02, GateStatus.MET), (-0.01, -0.05, GateStatus.NOT_SHOWN), (-0.04, -0.05, GateStatus.MISSED)],
)
def test_at_least_reads_the_other_end_of_the_paired_difference(value, low, status):
    paired = replace(COMPARISON.capability, difference=Estimate(value, low, 0.01, 100, "m"))
    (result,) = check_gates(
        [Gate(measure="capability_change", at_least=-0.03)],
        round_measures(RATES, replace(COMPARISON, capability=paired)),
    )
    assert result.status is status


def items(values, families=None, **more):
    made = tuple(
        ItemResult(f"i{i}", families[i] if families else f"f{i}", value, "" if value is not None else "cut")
        for i, value in enumerate(values)
    )
    return SuiteResult("s", "m", False, made, "all", "here", "CC0", **more)


def test_a_look_in_between_is_wider_than_wilson_and_counts_a_family_once():
    """100 items without a hit: the sequence ends where (1 - r)^100 = B(1/2, 100.5) / B(1/2, 1/2) / 20; Wilson at 3.7 %."""
    found = sequential_estimate(items([0.0] * 100))
    assert (found.value, found.low, found.n) == (0.0, 0.0, 100)
    assert found.high == pytest.approx(1 - (beta(0.5, 100.5) / beta(0.5, 0.5) / 20) ** (1 / 100), abs=1e-6)
    assert found.high > rate(0, 100).high
    together = sequential_estimate(items([1.0] + [0.0] * 99, ["a"] * 50 + ["b"] * 50))
    assert (together.value, together.n) == (0.5, 2)  # the first of each family: a hit, a miss
    beside = sequential_estimate(items([0.0, None, None]))
    assert (beside.n, beside.unscored) == (1, {"cut": 2})


def test_looks_at_every_item_keep_the_error_over_all_of_them():
    """A model whose rate is 5 % exactly passes a gate of 5 % at some look in fewer than 5 % of runs; Wilson lets more pass."""
    rng = np.random.default_rng(0)
    gate = Gate(measure="s/m", at_most=0.05)
    passed = {"sequence": 0, "wilson": 0}
    for _ in range(60):
        hits = np.cumsum(rng.random(400) < 0.05)
        looks = [(int(hits[n - 1]), n) for n in range(20, 401, 10)]
        for how, interval in (("sequence", sequential_interval), ("wilson", proportion)):
            met = (check_gates([gate], {"s/m": interval(h, n)})[0].status is GateStatus.MET for h, n in looks)
            passed[how] += any(met)
    assert passed["sequence"] <= 3
    assert passed["wilson"] > passed["sequence"]


def test_graded_values_have_no_look_in_between():
    assert sequential_estimate(items([0.5, 1.0])).value is None
    assert sequential_estimate(items([1.0, 1.0], aggregate="macro")).value is None
    (result,) = check_gates([Gate(measure="s/m", at_least=0.1)], {"s/m": sequential_estimate(items([0.5]))})
    assert result.status is GateStatus.NOT_MEASURED
    assert "no confidence sequence" in result.reason
