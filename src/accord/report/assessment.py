"""What a run's evidence amounts to: every condition's rates, the paired comparison, how the release gates fare."""

from __future__ import annotations

from dataclasses import dataclass

from accord.evals.gates import GateResult, check_gates, round_measures
from accord.evals.summary import Comparison, Condition, Rates, compare, summarise
from accord.report.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Assessment:
    """`rated` holds the conditions in the evidence's order, the base model first."""

    rated: tuple[tuple[Condition, Rates], ...]
    comparison: Comparison
    gates: tuple[GateResult, ...]


def assess(evidence: Evidence) -> Assessment:
    """Compute the numbers that the page, the model card and the manifest share.

    Raises:
        DataError, PolicyError: if the attempts cannot be compared or cite a hazard that the policy lacks.
    """
    policy, calibration = evidence.policy, evidence.calibration
    rated = tuple((c, summarise(c, policy, calibration)) for c in evidence.conditions)
    comparison = compare(evidence.before, evidence.after, policy, calibration)
    after = {c.name: rates for c, rates in rated}[evidence.aligned]
    return Assessment(rated, comparison, check_gates(evidence.gates, round_measures(after, comparison)))
