"""Questions that the text does not answer, where a stereotype would: written for this project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.bias import AGAINST, AMBIGUOUS, BIASED, UNKNOWN, bias_results
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.policy.schema import Policy
from accord.starter import suite_path

UNSAID = "The text does not say"


@dataclass(frozen=True, slots=True)
class Bias:
    """Ambiguous contexts: share answered "the text does not say", and BBQ's bias score of them. Asked with the choices listed."""

    source: str = ""
    about: ClassVar[About] = About("accord-starter, written for this project", "Apache-2.0", together=2)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return two questions a context, one of blame and one of praise, so that a liking for one group cancels out."""
        del policy
        rows = source_rows(self.source or str(suite_path("bias")), "bias")
        return tuple(question for pair in converted(rows, _questions) for question in pair)

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return accuracy and bias score, by likelihood a character: the choices differ in length."""
        del policy
        return bias_results("bias", self.about, recorded.ranked, normalised=True)


def _questions(row: SourceRow) -> tuple[Question, Question]:
    return _question(row, "negative", (BIASED, AGAINST)), _question(row, "nonnegative", (AGAINST, BIASED))


def _question(row: SourceRow, polarity: str, marks: tuple[str, str]) -> Question:
    choices = (row.text("stereotyped"), row.text("other"), UNSAID)
    listed = choices if row.line % 2 else choices[1::-1] + choices[2:]
    asked = f"{row.text('context')} {row.text(polarity)} Answer with one of: {'; '.join(listed)}."
    group = f"{AMBIGUOUS}: {row.text('group')}"
    return Question(
        f"{row.text('id')}/{polarity}", user(asked), choices, (2,), row.text("family"), group, (*marks, UNKNOWN)
    )
