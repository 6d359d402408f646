"""The records of `accord.types` <-> JSON lines.

A prompt's row is `{"id", "kind", "clause", "family", "split", "messages"}` with `form`, `pair` and `source` where they
say something; a demonstration's last message is the assistant's answer. Unknown keys are refused: a misspelt `split`
would let a sealed prompt into training. Other people's formats are read in `accord.data.formats`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from accord.data.jsonl import read_rows, refuse, write_rows
from accord.data.messages import messages_from_rows, messages_to_rows
from accord.errors import DataError, nearest
from accord.types import (
    Attempt,
    Choice,
    Comparison,
    Conversation,
    Demonstration,
    Failure,
    Finding,
    FindingStatus,
    HumanLabel,
    Kind,
    Outcome,
    Prompt,
    Score,
    Split,
)

Record = Prompt | Demonstration | Comparison | Choice | Attempt | Finding
_R = TypeVar("_R")

# Key -> type of its value, and for optional keys the value where the row has none.
_PROMPT = {"id": str, "kind": str, "clause": str, "family": str, "split": str, "messages": list}
_PROMPT_OPTIONAL = {"form": "", "pair": "", "source": ""}
_CHOICE = {"id": str, "family": str, "question": str, "choices": list, "answer": int}
_ATTEMPT = {
    "id": str, "prompt": dict, "condition": str, "answer": str, "n_tokens": int, "truncated": bool, "score": dict,
    "seed": int,
}  # fmt: skip
_FINDING = {"id": str, "prompt": dict, "answer": str, "score": dict, "failure": str, "condition": str}
_FINDING_TEXTS = ("attack", "prefill", "human_label", "minimal", "cluster", "run", "created")


@dataclass(frozen=True, slots=True)
class PromptSet:
    """Prompts, and the reference answers (by prompt id) that their rows carried: kept aside, never shown to a model."""

    prompts: tuple[Prompt, ...]
    references: Mapping[str, str]


def read_demonstrations(path: str | Path) -> list[Demonstration]:
    """Return the demonstrations in a JSONL file.

    Raises:
        DataError: one message with file and line of every fault; ids must be unique.
    """
    return _read(path, demonstration_from_row, lambda record: record.prompt.id)


def read_prompts(path: str | Path) -> PromptSet:
    """Return the prompts in a JSONL file; an assistant's last message is its reference answer and is kept aside.

    Raises:
        DataError: one message with file and line of every fault; ids must be unique.
    """
    pairs = _read(path, prompt_from_row, lambda pair: pair[0].id)
    references = {prompt.id: reference for prompt, reference in pairs if reference is not None}
    return PromptSet(tuple(prompt for prompt, _ in pairs), references)


def read_choices(path: str | Path) -> list[Choice]:
    """Return the multiple-choice questions in a JSONL file.

    Raises:
        DataError: one message with file and line of every fault; ids must be unique.
    """
    return _read(path, choice_from_row, lambda record: record.id)


def read_attempts(path: str | Path) -> list[Attempt]:
    """Return the attempts in a JSONL file.

    Raises:
        DataError: one message with file and line of every fault; ids must be unique.
    """
    return _read(path, attempt_from_row, lambda record: record.id)


def read_findings(path: str | Path) -> list[Finding]:
    """Return the findings in a JSONL file.

    Raises:
        DataError: one message with file and line of every fault; ids must be unique.
    """
    return _read(path, finding_from_row, lambda record: record.id)


def write_records(path: str | Path, records: Iterable[Record], references: Mapping[str, str] | None = None) -> int:
    """Write records as JSONL, whole or not at all, and return how many; `references` are answers by prompt id.

    Raises:
        DataError: if a record holds what JSON cannot.
    """
    known = references or {}
    return write_rows(path, (to_row(record, known.get(getattr(record, "id", ""))) for record in records))


def to_row(record: Record, reference: str | None = None) -> dict[str, Any]:
    """Return the JSON object of one record; `reference` is the answer that a prompt's row carries along."""
    match record:
        case Prompt():
            return _prompt_row(record, reference)
        case Demonstration():
            return _prompt_row(record.prompt, record.answer)
        case Comparison():
            answers = {
                "chosen": [{"role": "assistant", "content": record.chosen}],
                "rejected": [{"role": "assistant", "content": record.rejected}],
            }
            row: dict[str, Any] = {"id": record.id, "prompt": messages_to_rows(record.messages), **answers}
            row["split"] = record.split
            rated = ("preference", "strength", "chosen_safe", "rejected_safe")
            return (
                row
                | _said(record, ("family", "source", "clause", "group_id"))
                | {name: value for name in rated if (value := getattr(record, name)) is not None}
            )
        case Choice():
            return {name: getattr(record, name) for name in (*_CHOICE, "split")} | {"choices": list(record.choices)}
        case Attempt():
            kept: dict[str, Any] = {name: getattr(record, name) for name in _ATTEMPT}
            kept |= {"prompt": _prompt_row(record.prompt, None), "score": score_to_row(record.score)}
            if record.sent:
                kept["sent"] = messages_to_rows(record.sent)
            if record.queries != 1:
                kept["queries"] = record.queries
            if record.on_the_way:
                kept["on_the_way"] = True
            return kept | _said(record, ("attack", "prefill", "note"))
        case Finding():
            row = {name: getattr(record, name) for name in (*_FINDING, "status", "sealed")}
            row |= {"prompt": _prompt_row(record.prompt, None), "score": score_to_row(record.score)}
            if record.sent:
                row["sent"] = messages_to_rows(record.sent)
            if record.siblings:
                row["siblings"] = list(record.siblings)
            return row | _said(record, _FINDING_TEXTS)


def prompt_from_row(row: Mapping[str, Any]) -> tuple[Prompt, str | None]:
    """Return a row's prompt and its reference answer, None where it has none.

    Raises:
        DataError: if a key is missing, unknown or of the wrong kind, or no user's turn stands last before the answer.
    """
    got = _fields(row, _PROMPT, _PROMPT_OPTIONAL)
    messages = messages_from_rows(got["messages"])
    reference: str | None = None
    if messages[-1].role == "assistant":
        if messages[-1].extra:
            beside = ", ".join(sorted(messages[-1].extra))
            raise DataError(f"the last answer carries {beside}, which an answer of plain text cannot keep")
        reference, messages = messages[-1].content, messages[:-1]
    if not messages or messages[-1].role != "user":
        raise DataError(
            "no user's turn before the answer; expected a user's message to be answered", "ends-in-assistant"
        )
    if not messages[-1].content.strip():
        raise DataError("the user's last message is empty; expected a request")
    kind = cast(Kind, _one_of(got["kind"], get_args(Kind), "kind"))
    split = cast(Split, _one_of(got["split"], get_args(Split), "split"))
    # An ordinary request falls under no clause, nor does one of a public set, which is only measured with; without a family or an
    # id the fence has nothing to hold on to.
    free = kind == "ordinary" or (split == "verify" and bool(got["source"].strip()))
    blank = [name for name in ("id", "family", *(() if free else ("clause",))) if not got[name].strip()]
    if blank:
        raise DataError(f"empty: {', '.join(blank)}; expected a value in each")
    prompt = Prompt(
        got["id"], messages, kind, got["clause"], got["family"], split, got["form"], got["source"], got["pair"]
    )
    return prompt, reference


def demonstration_from_row(row: Mapping[str, Any]) -> Demonstration:
    """Return a row's demonstration.

    Raises:
        DataError: as `prompt_from_row`, and if the row ends without an assistant's answer.
    """
    prompt, answer = prompt_from_row(row)
    if answer is None or not answer.strip():
        raise DataError("no answer; expected a last message of the assistant with the answer that the policy asks for")
    return Demonstration(prompt, answer)


def choice_from_row(row: Mapping[str, Any]) -> Choice:
    """Return a row's multiple-choice question.

    Raises:
        DataError: if a key is missing, unknown or of the wrong kind, or the answer is no index of a choice.
    """
    got = _fields(row, _CHOICE, {"split": "verify"})
    choices = got["choices"]
    if len(choices) < 2 or not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise DataError(f"'choices' is {choices!r}; expected at least two texts")
    if len(set(choices)) < len(choices):
        raise DataError("two choices are equal, so the right one cannot be told apart")
    if not 0 <= got["answer"] < len(choices):
        raise DataError(f"'answer' is {got['answer']}; expected an index from 0 to {len(choices) - 1}")
    split = cast(Split, _one_of(got["split"], get_args(Split), "split"))
    return Choice(got["id"], got["question"], tuple(choices), got["answer"], got["family"], split)


def attempt_from_row(row: Mapping[str, Any]) -> Attempt:
    """Return a row's attempt.

    Raises:
        DataError: if a key is missing, unknown or of the wrong kind, at any level.
    """
    got = _fields(
        row, _ATTEMPT, {"attack": "", "sent": [], "prefill": "", "queries": 1, "note": "", "on_the_way": False}
    )
    got["score"] = score_from_row(got["score"])
    got["prompt"] = prompt_from_row(got["prompt"])[0]
    got["sent"] = messages_from_rows(got["sent"]) if got["sent"] else ()
    return Attempt(**got)


def score_to_row(score: Score) -> dict[str, Any]:
    """Return the JSON object of one score."""
    value = {} if score.value is None else {"value": score.value}
    return {"outcome": score.outcome.value, "scorer": score.scorer} | _said(score, ("reason", "evidence")) | value


def score_from_row(row: Mapping[str, Any]) -> Score:
    """Return a row's score.

    Raises:
        DataError: if a key is missing, unknown or of the wrong kind, or the value is no finite number.
    """
    value = row.get("value")
    if value is not None and (
        isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
    ):
        raise DataError(f"'value' is {value!r:.60}; expected a finite number")
    got = _fields(
        {k: v for k, v in row.items() if k != "value"}, {"outcome": str, "scorer": str}, {"reason": "", "evidence": ""}
    )
    outcome = Outcome(_one_of(got["outcome"], [o.value for o in Outcome], "outcome"))
    return Score(outcome, got["scorer"], got["reason"], got["evidence"], value if value is None else float(value))


def finding_from_row(row: Mapping[str, Any]) -> Finding:
    """Return a row's finding.

    Raises:
        DataError: if a key is missing, unknown or of the wrong kind, at any level.
    """
    if "outcome" in row and "score" not in row:  # as rows were written before they held the evidence
        row = {name: value for name, value in row.items() if name != "outcome"} | {
            "score": {"outcome": row["outcome"], "scorer": ""}
        }
    got = _fields(
        row,
        _FINDING,
        {"status": "open", "sealed": False, "sent": [], "siblings": []} | dict.fromkeys(_FINDING_TEXTS, ""),
    )
    if not all(isinstance(sibling, str) for sibling in got["siblings"]):
        raise DataError("'siblings' holds something other than text; expected ids or prompts")
    got["siblings"] = tuple(got["siblings"])
    got["score"] = score_from_row(got["score"])
    got["failure"] = cast(Failure, _one_of(got["failure"], get_args(Failure), "failure"))
    got["status"] = cast(FindingStatus, _one_of(got["status"], get_args(FindingStatus), "status"))
    label = got["human_label"]
    got["human_label"] = cast(HumanLabel, _one_of(label, get_args(HumanLabel), "human_label")) if label else None
    got["prompt"] = prompt_from_row(got["prompt"])[0]
    got["sent"] = messages_from_rows(got["sent"]) if got["sent"] else ()
    return Finding(**got)


def _read(path: str | Path, convert: Callable[[Mapping[str, Any]], _R], id_of: Callable[[_R], str]) -> list[_R]:
    records: list[_R] = []
    faults: list[tuple[int, str]] = []
    first: dict[str, int] = {}
    for row in read_rows(path):
        try:
            record = convert(row.data)
        except DataError as error:
            faults.append((row.line, str(error)))
            continue
        id = id_of(record)
        if id in first:
            faults.append((row.line, f"id '{id}' is used before, on line {first[id]}; expected each id once"))
        first.setdefault(id, row.line)
        records.append(record)
    refuse(path, faults)
    return records


def _fields(row: Mapping[str, Any], required: Mapping[str, type], optional: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's values and the defaults of what it leaves out; all faults in one message."""
    known = {**required, **{name: type(default) for name, default in optional.items()}}
    faults = [f"unknown key '{name}'{nearest(name, known)}" for name in row if name not in known]
    faults += [f"'{name}' is missing" for name in required if name not in row]
    for name, kind in known.items():
        # bool is an int to Python, but `"answer": true` is a mistake.
        if name in row and (not isinstance(row[name], kind) or (kind is int and isinstance(row[name], bool))):
            faults.append(f"'{name}' is {row[name]!r:.60}; expected {_CALLED[kind]}")
    if faults:
        raise DataError("; ".join(faults))
    return {**optional, **row}


_CALLED = {str: "text", int: "a whole number", bool: "true or false", list: "a list", dict: "an object"}


def _one_of(value: str, known: Sequence[str], what: str) -> str:
    if value not in known:
        raise DataError(f"'{what}' is '{value}'{nearest(value, known) or '; expected one of ' + ', '.join(known)}")
    return value


def _prompt_row(prompt: Prompt, answer: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(prompt, name) for name in ("id", "kind", "clause", "family")}
    row |= _said(prompt, ("form", "pair"))
    row["split"] = prompt.split
    row |= _said(prompt, ("source",))
    turns = messages_to_rows(prompt.messages)
    return row | {"messages": turns if answer is None else [*turns, {"role": "assistant", "content": answer}]}


def _said(record: object, names: Sequence[str]) -> dict[str, Any]:
    """Return the optional values that say something."""
    return {name: getattr(record, name) for name in names if getattr(record, name)}


def as_text(messages: Conversation) -> str:
    """Return all that the user says, one turn a line: what two prompts are compared by."""
    return "\n".join(message.content for message in messages if message.role == "user")
