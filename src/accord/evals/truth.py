"""TruthfulQA's two scores (Lin et al. 2022, arXiv 2109.07958, section 3.2), from likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

from accord.evals.likelihood import choice_result
from accord.evals.metrics import choice_items, mass_on_right, right
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Ranked


def truth_results(suite: str, about: About, ranked: Sequence[Ranked]) -> tuple[SuiteResult, ...]:
    """Return MC1 (the likeliest choice is the true one) and MC2 (the true ones' share of probability) of groups mc1 and mc2.

    Likelihoods are sums over tokens, not normalised by length, as in the paper.
    """
    mc1 = choice_items([r for r in ranked if r.question.group == "mc1"], right)
    mc2 = choice_items([r for r in ranked if r.question.group == "mc2"], mass_on_right)
    return (
        choice_result(suite, "mc1", mc1, about),
        choice_result(suite, "mc2", mc2, about, "questions; a value is the true answers' share of probability"),
    )
