"""Pairs of answers for a judge to compare: people's comparisons, or what two evaluated models answered to the same items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from accord.errors import DataError
from accord.evals.judged_answers import judged_answers
from accord.scorers.pairwise import Pair, Winner
from accord.types import Attempt, Comparison, Conversation, Outcome, last_user_text


@dataclass(frozen=True, slots=True)
class RunPairs:
    """Answers of two runs side by side; `unmatched` items were asked in one run alone, `failed` ones have an error in either."""

    pairs: tuple[Pair, ...]
    unmatched: int
    failed: int


def pairs_of_comparisons(comparisons: Iterable[Comparison]) -> tuple[Pair, ...]:
    """Return a pair a comparison, `chosen` as ours; people prefer it, unless `preference` says that they do not or are divided."""
    return tuple(Pair(c.id, _text(c.messages), c.chosen, c.rejected, c.family, _preferred(c)) for c in comparisons)


def pairs_of_runs(ours: Path, theirs: Path) -> RunPairs:
    """Return what two `accord eval` runs answered to the items that both were asked; an answer that failed is in no pair.

    Raises:
        DataError: a folder holds no finished evaluation, an item is another question in the other run, or no pair is left.
    """
    mine, other = _by_item(ours), _by_item(theirs)
    both = [(key, mine[key], other[key]) for key in mine if key in other]
    for (suite, id), a, b in both:
        if last_user_text(_asked(a)) != last_user_text(_asked(b)):
            raise DataError(f"item '{id}' of suite '{suite}' is one question in {ours} and another in {theirs}")
    pairs = tuple(
        Pair(f"{suite}/{id}", _text(_asked(a)), f"{a.prefill}{a.answer}", f"{b.prefill}{b.answer}", a.prompt.family)
        for (suite, id), a, b in both
        if Outcome.ERROR not in (a.score.outcome, b.score.outcome)
    )
    if not pairs:
        raise DataError(f"{ours} and {theirs} have no item that both answered")
    return RunPairs(pairs, len(mine) + len(other) - 2 * len(both), len(both) - len(pairs))


def _by_item(run: Path) -> dict[tuple[str, str], Attempt]:
    return {(suite, a.id): a for suite, attempts in judged_answers(run).items() for a in attempts}


def _asked(attempt: Attempt) -> Conversation:
    return attempt.sent or attempt.prompt.messages


def _text(messages: Conversation) -> str:
    turns = [m for m in messages if m.role != "system"]
    return turns[0].content if len(turns) == 1 else "\n".join(f"{m.role}: {m.content}" for m in turns)


def _preferred(comparison: Comparison) -> Winner:
    if comparison.preference is None or comparison.preference > 0.5:
        return "ours"
    return "tie" if comparison.preference == 0.5 else "theirs"
