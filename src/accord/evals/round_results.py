"""A condition of a round of alignment as the results of an evaluation, so that any two runs are compared in one way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

from accord.evals.corrected import with_calibration
from accord.evals.results import ItemResult, SuiteResult, Verdict
from accord.evals.summary import Condition, complied, family_of, refused, unscored_reason
from accord.policy.schema import Policy
from accord.scorers.calibration import Calibration
from accord.types import Attempt, Kind, last_user_text

SUITE = "round"


def round_results(
    condition: Condition, policy: Policy, scorer: str = "", known: Calibration | None = None
) -> tuple[SuiteResult, ...]:
    """Return the measures of a round that a condition's attempts and choices allow, item by item; `known` is their judge's
    calibration.

    Raises:
        PolicyError: a harmful prompt cites a hazard that the policy lacks.
    """
    measures: tuple[tuple[str, Kind, Callable[[Attempt], bool], Verdict], ...] = (
        ("harmful_compliance", "harmful", lambda attempt: complied(attempt, policy), "complied"),
        ("contrast_refusal", "contrast", refused, "refused"),
        ("ordinary_refusal", "ordinary", refused, "refused"),
    )
    results = [
        with_calibration(
            _result(metric, False, items, f"{kind} prompts assessed", _digest(asked), scorer, counts), known
        )
        for metric, kind, hit, counts in measures
        if (asked := [a for a in condition.attempts if a.prompt.kind == kind]) and (items := _items(asked, hit))
    ]
    if condition.choices:
        items = tuple(
            ItemResult(c.choice_id, c.family, None if c.correct is None else float(c.correct), c.reason)
            for c in condition.choices
        )
        results.append(_result("capability", True, items, "questions with a readable answer", "", "", ""))
    return tuple(results)


def _result(
    metric: str,
    higher: bool,
    items: tuple[ItemResult, ...],
    below: str,
    digest: str,
    scorer: str,
    counts: Verdict | Literal[""],
) -> SuiteResult:
    return SuiteResult(SUITE, metric, higher, items, below, "the verify split", "", digest, scorer, counts=counts)


def _items(asked: Sequence[Attempt], hit: Callable[[Attempt], bool]) -> tuple[ItemResult, ...]:
    return tuple(
        ItemResult(a.prompt.id, family_of(a), float(hit(a)))
        if a.score.outcome.assessed
        else ItemResult(a.prompt.id, family_of(a), None, unscored_reason(a), error=a.score.outcome.value == "error")
        for a in asked
    )


def _digest(asked: Sequence[Attempt]) -> str:
    """Return what changes when a prompt's text does."""
    texts = sorted(f"{a.prompt.id}\x1f{last_user_text(a.prompt.messages)}" for a in asked)
    return hashlib.sha256("\x1e".join(texts).encode("utf-8", "replace")).hexdigest()
