"""Common misconceptions as multiple choice, written for this project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.errors import DataError
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.evals.truth import truth_results
from accord.policy.schema import Policy
from accord.starter import suite_path


@dataclass(frozen=True, slots=True)
class Truthfulness:
    """Common misconceptions: MC1 and MC2 by likelihood. Keys: id, family, question, right, wrong (lists)."""

    source: str = ""
    about: ClassVar[About] = About("accord-starter, written for this project", "Apache-2.0", together=2)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return each question with one right choice (MC1) and with all of them (MC2)."""
        del policy
        rows = source_rows(self.source or str(suite_path("truthfulness")), "truthfulness")
        return tuple(question for pair in converted(rows, _questions) for question in pair)

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return MC1 and MC2."""
        del policy
        return truth_results("truthfulness", self.about, recorded.ranked)


def _questions(row: SourceRow) -> tuple[Question, Question]:
    id, family, asked = row.text("id"), row.text("family"), user(row.text("question"))
    right, wrong = row.value("right"), row.value("wrong")
    if not isinstance(right, list) or not isinstance(wrong, list) or not right or not wrong:
        raise DataError("'right' and 'wrong' must be lists of texts")
    return (
        Question(f"{id}/mc1", asked, (right[0], *wrong), (0,), family, "mc1"),
        Question(f"{id}/mc2", asked, (*right, *wrong), tuple(range(len(right))), family, "mc2"),
    )
