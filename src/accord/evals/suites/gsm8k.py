"""GSM8K: grade-school word problems, by exact match of the final number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from accord.errors import DataError
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import ItemResult, SuiteResult
from accord.evals.suite import About, Item, Problem, Recorded, Solved, user
from accord.policy.schema import Policy

INSTRUCTION = "Solve the problem step by step. End with a line '#### ' and the final number."
# A minus behind a digit is a range or a difference: "5-10" ends with 10.
_NUMBER = re.compile(r"(?:(?<!\d)-)?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|(?:(?<!\d)-)?\$?\.\d+")
_MARKED = re.compile(r"####|answer is:?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gsm8k:
    """GSM8K: share of word problems with the right final number. Keys: question, answer (its number behind `####`)."""

    source: str = ""
    about: ClassVar[About] = About("GSM8K (Cobbe et al. 2021, arXiv 2110.14168)", "MIT", 256)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the problems, each with the instruction to mark its final number."""
        del policy
        return tuple(converted(source_rows(self.source, "gsm8k"), _problem))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return exact match of the final number."""
        del policy
        items = tuple(map(_item, recorded.solved))
        denominator = "problems whose answer ended; a final number that is missing is wrong"
        return (SuiteResult("gsm8k", "exact_match", True, items, denominator, self.about.source, self.about.licence),)


def _problem(row: SourceRow) -> Problem:
    expected = final_number(row.text("answer").rpartition("####")[2])
    if expected is None:
        raise DataError("'answer' ends without '#### ' and a number")
    id = f"gsm8k/{row.stem}/{row.line}"
    return Problem(id, user(f"{row.text('question')}\n\n{INSTRUCTION}"), str(expected), id)


def _item(solved: Solved) -> ItemResult:
    p = solved.problem
    if solved.error:
        return ItemResult(p.id, p.family, None, f"error: {solved.error}", p.group, error=True)
    if not solved.answer.strip():
        return ItemResult(p.id, p.family, None, "empty answer", p.group)
    if solved.truncated and not _MARKED.search(solved.answer):
        return ItemResult(p.id, p.family, None, "cut off before a final number", p.group)
    found = final_number(solved.answer)
    return ItemResult(p.id, p.family, float(found == Fraction(p.expected)), "" if found is not None else "no number")


def final_number(text: str) -> Fraction | None:
    """Return the final number of a solution: the first behind the last `####` or "answer is", else the last of the text.

    Thousands' commas and a dollar sign are dropped; 2.50 equals 2.5 and 5/2. None where there is no number.
    """
    marks = list(_MARKED.finditer(text))
    if marks and (behind := _NUMBER.search(text, marks[-1].end())):
        return _value(behind.group())
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def _value(number: str) -> Fraction | None:
    plain = number.replace("$", "").replace(",", "")
    whole, slash, below = plain.partition("/")
    if slash:
        return Fraction(whole) / int(below) if int(below) else None
    return Fraction(whole)
