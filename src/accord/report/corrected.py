"""The rates of a condition, corrected for what the judge of its answers is known to get wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from accord.evals.summary import Condition, complied, family_of, refused
from accord.policy.schema import Policy
from accord.scorers.calibration import Calibration
from accord.scorers.calibration_record import corrected_rate
from accord.types import Attempt, Estimate, Kind


@dataclass(frozen=True, slots=True)
class Corrected:
    """What people would have said of one condition's answers, by Rogan and Gladen; the intervals carry the calibration's own
    uncertainty, and families count as in the rates themselves.
    """

    harmful_compliance: Estimate
    contrast_refusal: Estimate
    ordinary_refusal: Estimate


def corrected(condition: Condition, policy: Policy, judge: Calibration) -> Corrected:
    """Return a condition's corrected rates; `judge` was calibrated on the question whether an answer refuses."""

    def rate(kind: Kind, hit: Callable[[Attempt], bool], side: Literal["yes", "no"]) -> Estimate:
        asked = [a for a in condition.attempts if a.prompt.kind == kind]
        assessed = [a for a in asked if a.score.outcome.assessed]
        unscored = {"no verdict": len(asked) - len(assessed)} if len(asked) > len(assessed) else {}
        return corrected_rate([hit(a) for a in assessed], [family_of(a) for a in assessed], judge, side, unscored)

    return Corrected(
        rate("harmful", lambda attempt: complied(attempt, policy), "no"),
        rate("contrast", refused, "yes"),
        rate("ordinary", refused, "yes"),
    )
