"""Repairs on disk: one JSON object a line, which a person reads, accepts, rejects or edits before anything is trained on it.

To reject a row set its `review` to "rejected"; to correct one change its `answer` and set "edited". A row that nobody has looked at
has the empty text there. What is read back is checked against the store again: a finding may have been sealed in the meantime.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from accord.data.findings import FindingStore
from accord.data.jsonl import read_rows, refuse, write_rows
from accord.data.records import prompt_from_row, to_row
from accord.errors import DataError
from accord.types import Comparison, Demonstration, Prompt

Use = Literal["repair", "contrast"]
Origin = Literal["sampled", "written response"]
Review = Literal["", "accepted", "rejected", "edited"]


@dataclass(frozen=True, slots=True)
class Repair:
    """An answer to learn, for a finding or a contrast prompt beside it; `rejected` is the failure, empty where there is none."""

    id: str
    finding: str
    use: Use
    prompt: Prompt
    answer: str
    origin: Origin
    rejected: str = ""
    review: Review = ""


@dataclass(frozen=True, slots=True)
class Lessons:
    """What may be trained on of a file of repairs, and how many rows were left out or not looked at."""

    demonstrations: tuple[Demonstration, ...]
    comparisons: tuple[Comparison, ...]
    n_unreviewed: int
    left_out: dict[str, int]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    id: str
    finding: str
    use: Use
    prompt: dict[str, Any]
    answer: str
    origin: Origin
    rejected: str
    review: Review


def write_repairs(path: str | Path, repairs: Iterable[Repair]) -> int:
    """Write repairs for a person to review, and return how many."""
    return write_rows(path, ({**_shown(r), "prompt": to_row(r.prompt)} for r in repairs))


def read_repairs(path: str | Path) -> list[Repair]:
    """Return the repairs in a file, with what a person changed.

    Raises:
        DataError: one message with file and line of every fault.
    """
    repairs: list[Repair] = []
    faults: list[tuple[int, str]] = []
    for row in read_rows(path):
        try:
            kept = _Row.model_validate(row.data)
            if not kept.answer.strip():
                raise DataError('\'answer\' is empty; expected text, or "review": "rejected"')
            prompt = prompt_from_row(kept.prompt)[0]
        except ValidationError as error:
            told = "; ".join(f"'{'.'.join(map(str, e['loc']))}': {e['msg']}" for e in error.errors())
            faults.append((row.line, told))
        except DataError as error:
            faults.append((row.line, str(error)))
        else:
            repairs.append(Repair(**{**kept.model_dump(), "prompt": prompt}))
    refuse(path, faults)
    return repairs


def lessons(repairs: Sequence[Repair], store: FindingStore, only_reviewed: bool = False) -> Lessons:
    """Return what may be trained on: all that no person rejected, or with `only_reviewed` what one accepted or edited.

    Raises:
        DataError: a row is made from a finding that is sealed or not in the store, or its prompt repeats a verify prompt.
    """
    trainable = {finding.id for finding in store.trainable()}
    lost = {r.finding for r in repairs} - trainable
    store.trainable(sorted(id for id in lost if store.get(id).sealed))  # raises where there is one
    store.refuse_sealed([r.prompt for r in repairs])
    reasons = {
        "rejected by a person": [r for r in repairs if r.review == "rejected"],
        "not looked at": [r for r in repairs if r.review == "" and only_reviewed],
        "its finding was dismissed": [r for r in repairs if r.finding in lost],
    }
    out = {r.id for rows in reasons.values() for r in rows}
    kept = [r for r in repairs if r.id not in out]
    return Lessons(
        tuple(Demonstration(r.prompt, r.answer) for r in kept),
        tuple(_comparison(r) for r in kept if r.rejected.strip() and r.rejected.strip() != r.answer.strip()),
        sum(r.review == "" for r in kept),
        {why: len(rows) for why, rows in reasons.items() if rows},
    )


def _comparison(r: Repair) -> Comparison:
    harmful = r.prompt.kind == "harmful"
    return Comparison(
        id=r.id,
        messages=r.prompt.messages,
        chosen=r.answer,
        rejected=r.rejected,
        family=r.prompt.family,
        split=r.prompt.split,
        source=r.prompt.source,
        clause=r.prompt.clause,
        chosen_safe=True if harmful else None,
        rejected_safe=False if harmful else None,
    )


def _shown(r: Repair) -> dict[str, Any]:
    # What a person looks at and changes stands first.
    names = ("review", "answer", "rejected", "use", "origin", "id", "finding")
    return {name: getattr(r, name) for name in names}
