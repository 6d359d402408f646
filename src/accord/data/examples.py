"""A training or evaluation file of any known format as one kind of record: a prompt and the answers that stand with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from accord.data.checks import Flaw, numbered_comparisons
from accord.data.jsonl import Row, read_rows
from accord.data.messages import messages_from_rows
from accord.data.ratings import prompt_turns, rating_from_row
from accord.data.records import choice_from_row, prompt_from_row
from accord.errors import DataError
from accord.types import Comparison, Conversation, Message

FileKind = Literal["comparisons", "ratings", "demonstrations", "prompts", "conversations", "questions"]


@dataclass(frozen=True, slots=True)
class Example:
    """One usable row. `answers`: chosen and rejected, one rated or demonstrated answer, or none. `label`: what balance counts.

    `clause` is the policy's that a demonstration or prompt cites.
    """

    line: int
    id: str
    messages: Conversation
    answers: tuple[str, ...]
    label: str = ""
    clause: str = ""


@dataclass(frozen=True, slots=True)
class ExampleFile:
    """A file's kind, how many rows it has, those that can be used and those that cannot."""

    kind: FileKind
    n_rows: int
    examples: tuple[Example, ...]
    unusable: tuple[Flaw, ...]


def read_examples(path: str | Path) -> ExampleFile:
    """Read a file whose first row says what it holds.

    Comparisons have `chosen` and `rejected`; ratings `completion` and `label`; multiple-choice questions `choices`; demonstrations
    `messages` beside `id` and `kind` (prompts, where none has an answer); conversations `messages` alone; prompts `prompt` alone.

    Raises:
        DataError: the file is missing or has lines that are no JSON objects.
    """
    path = Path(path)
    rows = read_rows(path)
    first = rows[0].data
    if "chosen" in first:
        return _comparisons(rows, path.name)
    if "label" in first:
        return _each(rows, "ratings", _rated)
    if "choices" in first:
        return _each(rows, "questions", _question, unique=True)
    if "prompt" in first and "messages" not in first:
        return _each(rows, "prompts", _plain_prompt)
    if "kind" in first or "messages" not in first:
        return _answered(_each(rows, "demonstrations", _demonstrated, unique=True))
    return _each(rows, "conversations", _conversation)


def _comparisons(rows: Sequence[Row], origin: str) -> ExampleFile:
    numbered, report = numbered_comparisons(rows, origin)
    return ExampleFile(
        "comparisons",
        report.rows,
        tuple(Example(line, c.id, c.messages, (c.chosen, c.rejected), _preference(c)) for line, c in numbered),
        report.faults,
    )


def _preference(c: Comparison) -> str:
    if c.chosen_safe is None or c.rejected_safe is None:
        return ""
    return f"chosen {'safe' if c.chosen_safe else 'unsafe'}, rejected {'safe' if c.rejected_safe else 'unsafe'}"


def _answered(file: ExampleFile) -> ExampleFile:
    """Where no row has an answer the file holds prompts; where some have, the others are flawed."""
    without = [e for e in file.examples if not e.answers]
    if len(without) == len(file.examples):
        return replace(file, kind="prompts")
    missing = tuple(
        Flaw("empty-answer", e.line, "no answer; expected a last message of the assistant") for e in without
    )
    kept = tuple(e for e in file.examples if e.answers)
    return replace(file, examples=kept, unusable=(*file.unusable, *missing))


def _each(rows: Sequence[Row], kind: FileKind, convert: Callable[[Row], Example], unique: bool = False) -> ExampleFile:
    """Convert each row. `unique`: no two may have one id, as the readers of this kind ask."""
    examples: list[Example] = []
    unusable: list[Flaw] = []
    first: dict[str, int] = {}
    for row in rows:
        try:
            example = convert(row)
            if unique and example.id in first:
                raise DataError(f"id '{example.id}' is used before, on line {first[example.id]}")
        except DataError as error:
            unusable.append(Flaw(error.code, row.line, str(error)))
            continue
        first[example.id] = row.line
        if any(not answer.strip() for answer in example.answers):
            unusable.append(Flaw("empty-answer", row.line, "the answer is empty: nothing would be supervised"))
        else:
            examples.append(example)
    return ExampleFile(kind, len(rows), tuple(examples), tuple(unusable))


def _rated(row: Row) -> Example:
    rating = rating_from_row(row.data, _id(row))
    return Example(
        row.line, rating.id, rating.messages, (rating.answer,), "desirable" if rating.desirable else "undesirable"
    )


def _question(row: Row) -> Example:
    choice = choice_from_row(row.data)
    return Example(row.line, choice.id, (Message("user", choice.question),), ())


def _plain_prompt(row: Row) -> Example:
    return Example(row.line, _id(row), prompt_turns(row.data.get("prompt")), ())


def _demonstrated(row: Row) -> Example:
    prompt, answer = prompt_from_row(row.data)
    return Example(
        row.line, prompt.id, prompt.messages, () if answer is None else (answer,), prompt.kind, prompt.clause
    )


def _conversation(row: Row) -> Example:
    messages = messages_from_rows(row.data["messages"]) if "messages" in row.data else ()
    if not messages or messages[-1].role != "assistant":
        raise DataError("no answer; expected a last message of the assistant", "empty-answer")
    if len(messages) == 1 or messages[-2].role not in ("user", "tool"):
        raise DataError("no user's turn before the answer; expected one to be answered", "ends-in-assistant")
    return Example(row.line, _id(row), messages[:-1], (messages[-1].content,))


def _id(row: Row) -> str:
    return str(row.data.get("id") or f"line {row.line}")
