"""Multiple choice in the manner of MMLU: the choices stand in the question with letters, and a letter is the answer."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar

from accord.errors import DataError
from accord.evals.likelihood import choice_result
from accord.evals.metrics import choice_items, right
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import Aggregate, SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Mmlu:
    """MMLU-style questions: accuracy by the letters' likelihood. Columns: question, choices, answer, subject; or MMLU's CSV files.

    `aggregate=macro` weighs every subject the same; by default every question counts the same, as in the paper.
    """

    source: str = ""
    aggregate: Aggregate = "micro"
    about: ClassVar[About] = About("MMLU (Hendrycks et al. 2021, arXiv 2009.03300), or a file like it", "MIT")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the questions; the subject, or the file's name, is the group."""
        del policy
        rows = source_rows(self.source, "mmlu")
        # MMLU's own files have no header: what was read as one is a question.
        if not any("question" in row.data for row in rows):
            rows = source_rows(self.source, "mmlu", header=False)
        return tuple(converted(rows, _question))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return accuracy."""
        del policy
        return (
            choice_result(
                "mmlu", "accuracy", choice_items(recorded.ranked, right), self.about, aggregate=self.aggregate
            ),
        )


def _question(row: SourceRow) -> Question:
    asked, choices = row.text("question", "0"), _choices(row)
    letters = ascii_uppercase[: len(choices)]
    answer = _answer(row.value("answer", str(len(choices) + 1)), letters)
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True))
    text = f"{asked}\n{listed}\nAnswer with the letter alone."
    id, subject = f"mmlu/{row.stem}/{row.line}", row.optional("subject") or row.stem
    return Question(id, user(text), tuple(letters), (answer,), id, subject)


def _choices(row: SourceRow) -> list[str]:
    if "0" in row.data:  # question, choices, answer
        values: Any = [row.data[str(i)] for i in range(1, len(row.data) - 1)]
    elif "choices" in row.data:
        values = row.data["choices"]
        if isinstance(values, str):  # a list in a CSV cell
            try:
                values = ast.literal_eval(values)
            except (ValueError, SyntaxError):
                raise DataError(f"'choices' is {values!r:.60}; expected a list of texts") from None
    else:
        values = [row.data[letter] for letter in ascii_uppercase if letter in row.data]
    if not isinstance(values, list | tuple) or not 2 <= len(values) <= len(ascii_uppercase):
        raise DataError("expected 'choices', or columns A, B, C and D: at least two")
    return [str(value) for value in values]


def _answer(value: Any, letters: str) -> int:
    if isinstance(value, str):
        text = value.strip().upper()
        if len(text) == 1 and text in letters:
            return letters.index(text)
        value = int(text) if text.isdecimal() else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(letters):
        return value
    raise DataError(f"'answer' is {value!r:.60}; expected one of {letters}, or an index from 0 to {len(letters) - 1}")
