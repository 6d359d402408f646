"""Release goals: whether a number, with its uncertainty, is on the right side of a limit that a person set.

A goal is met only where the whole interval is on the right side: 0 of 40 has an upper end of 8.8 %, so it does not show
"at most 5 %". Left out: the exit code, which is the command line's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from accord.evals.summary import NOT_AN_ANSWER_LIMIT, Comparison, Rates, unscored_share
from accord.types import Estimate

Measure = Literal[
    "harmful_compliance", "contrast_refusal", "ordinary_refusal", "not_an_answer", "capability", "capability_change"
]


class GoalStatus(enum.StrEnum):
    """What can be said of a goal; only MET lets a gate pass."""

    MET = "met"
    NOT_SHOWN = "not shown"
    MISSED = "missed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit for the aligned model: a rate in [0, 1], or, for `capability_change`, a difference in [-1, 1]."""

    measure: Measure
    bound: Literal["at most", "at least"]
    limit: float


@dataclass(frozen=True, slots=True)
class GoalResult:
    """A goal, what was measured for it, and why its status is what it is."""

    goal: Goal
    status: GoalStatus
    estimate: Estimate
    reason: str


def check_goals(goals: Iterable[Goal], after: Rates, comparison: Comparison) -> tuple[GoalResult, ...]:
    """Return how each goal fares for the aligned model's rates and its paired comparison with the base."""
    return tuple(_check(goal, _measured(goal.measure, after, comparison)) for goal in goals)


def _measured(measure: Measure, after: Rates, comparison: Comparison) -> Estimate:
    if measure == "capability_change":
        return comparison.capability.difference
    estimate: Estimate = getattr(after, measure)
    return estimate


def _check(goal: Goal, estimate: Estimate) -> GoalResult:
    def within(value: float) -> bool:
        return value <= goal.limit if goal.bound == "at most" else value >= goal.limit

    if estimate.value is None:
        return GoalResult(goal, GoalStatus.NOT_MEASURED, estimate, "nothing was measured")
    if not within(estimate.value):
        return GoalResult(goal, GoalStatus.MISSED, estimate, "the measured value is on the wrong side")
    share = unscored_share(estimate)
    if share is not None and share > NOT_AN_ANSWER_LIMIT:
        return GoalResult(goal, GoalStatus.NOT_SHOWN, estimate, f"{share:.1%} of the attempts could not be scored")
    worst = estimate.high if goal.bound == "at most" else estimate.low
    if worst is None or not within(worst):
        return GoalResult(goal, GoalStatus.NOT_SHOWN, estimate, "the interval reaches past the limit")
    return GoalResult(goal, GoalStatus.MET, estimate, "the whole interval is within the limit")
