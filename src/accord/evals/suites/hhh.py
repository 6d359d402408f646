"""Anthropic's comparisons of helpfulness, honesty and harmlessness, and other sets of its `corrects`/`incorrects` form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from accord.errors import DataError
from accord.evals.likelihood import choice_result
from accord.evals.metrics import choice_items, right
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Hhh:
    """HHH comparisons: share in which the better answer's letter is the likelier. Keys: prompt, corrects, incorrects."""

    source: str = ""
    about: ClassVar[About] = About("Constitutional AI's evaluations (Bai et al. 2022, arXiv 2212.08073)", "MIT")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the comparisons; the file's name is the group."""
        del policy
        return tuple(converted(source_rows(self.source, "hhh"), _question))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return accuracy."""
        del policy
        return (choice_result("hhh", "accuracy", choice_items(recorded.ranked, right), self.about),)


def _question(row: SourceRow) -> Question:
    corrects, incorrects = _texts(row.value("corrects")), _texts(row.value("incorrects"))
    id = f"hhh/{row.stem}/{row.line}"
    return Question(id, user(row.text("prompt")), (*corrects, *incorrects), tuple(range(len(corrects))), id, row.stem)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise DataError(f"'corrects' and 'incorrects' must be lists of texts, not {value!r:.60}")
    # An answer begins without a space in a chat; the sets' own begin with one, for models without turns.
    return tuple(text.strip() for text in value)
