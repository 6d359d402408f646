"""What suites of multiple choice share: accuracy by likelihood, plain and length-normalised."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from accord.evals.metrics import choice_items, right
from accord.evals.results import Aggregate, ItemResult, SuiteResult
from accord.evals.suite import About, Ranked

ASKED = "questions with one likeliest choice"


def accuracy_results(
    suite: str, about: About, ranked: Sequence[Ranked], aggregate: Aggregate = "micro"
) -> tuple[SuiteResult, ...]:
    """Return `accuracy` (lm-eval's acc) and `accuracy_norm` (its acc_norm: likelihood a character)."""
    plain, normalised = choice_items(ranked, right), choice_items(ranked, partial(right, normalised=True))
    return (
        choice_result(suite, "accuracy", plain, about, aggregate=aggregate),
        choice_result(suite, "accuracy_norm", normalised, about, aggregate=aggregate),
    )


def choice_result(
    suite: str,
    metric: str,
    items: Sequence[ItemResult],
    about: About,
    denominator: str = ASKED,
    higher_is_better: bool = True,
    low: float = 0.0,
    aggregate: Aggregate = "micro",
    note: str = "",
) -> SuiteResult:
    """Return a result compared with an answer key."""
    return SuiteResult(
        suite, metric, higher_is_better, tuple(items), denominator, about.source, about.licence, low=low,
        aggregate=aggregate, note=note,
    )  # fmt: skip
