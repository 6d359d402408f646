"""Answers that are each marked good or bad: TRL's unpaired format, or comparisons taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.data.checks import read_comparisons
from accord.data.jsonl import read_rows, refuse
from accord.data.messages import messages_from_rows
from accord.errors import DataError
from accord.types import Conversation, Message, Rating


def read_ratings(path: str | Path, drop: bool = False) -> list[Rating]:
    """Return the ratings of a file of rows `{"prompt", "completion", "label"}`; a comparison is one good and one bad answer.

    Prompt and completion are text or message lists; `label` is true for a desirable answer. `drop` leaves out comparisons that
    cannot be used.

    Raises:
        DataError: file and line of every row that cannot be used, or all answers are marked alike.
    """
    path = Path(path)
    first = next(iter(read_rows(path)), None)
    if first is not None and "label" not in first.data and "chosen" in first.data:
        ratings = [
            Rating(f"{c.id}:{side}", c.messages, text, desirable)
            for c in read_comparisons(path, drop=drop).comparisons
            for side, text, desirable in (("chosen", c.chosen, True), ("rejected", c.rejected, False))
        ]
    else:
        ratings = _read_unpaired(path)
    if len({r.desirable for r in ratings}) < 2:
        raise DataError(f"{path}: all {len(ratings)} answers are marked alike; expected desirable and undesirable ones")
    return ratings


def _read_unpaired(path: Path) -> list[Rating]:
    ratings: list[Rating] = []
    faults: list[tuple[int, str]] = []
    for row in read_rows(path):
        try:
            ratings.append(rating_from_row(row.data, str(row.data.get("id") or f"{path.name}:{row.line}")))
        except DataError as error:
            faults.append((row.line, str(error)))
    refuse(path, faults)
    return ratings


def rating_from_row(row: Mapping[str, Any], id: str) -> Rating:
    """Return a row's rating.

    Raises:
        DataError: a key is missing or of the wrong kind, the prompt ends with no user's turn, or the answer is empty.
    """
    missing = [name for name in ("prompt", "completion", "label") if name not in row]
    if missing:
        raise DataError(
            f"missing {', '.join(repr(name) for name in missing)}; expected 'prompt', 'completion', 'label'"
        )
    if not isinstance(row["label"], bool):
        raise DataError(f"'label' is {row['label']!r:.60}; expected true or false")
    messages = prompt_turns(row["prompt"])
    answer = _turns(row["completion"], "assistant", "completion")
    if len(answer) != 1 or answer[0].role != "assistant" or answer[0].extra:
        raise DataError("'completion' must be one answer of the assistant's, of text alone")
    if not answer[0].content.strip():
        raise DataError("'completion' is empty: there is nothing to learn or to avoid", "empty-answer")
    return Rating(id, messages, answer[0].content, row["label"])


def prompt_turns(value: Any) -> Conversation:
    """Return a prompt of text or of messages as turns.

    Raises:
        DataError: it is neither, or ends with no user's turn.
    """
    messages = _turns(value, "user", "prompt")
    if not messages or messages[-1].role not in ("user", "tool"):
        raise DataError("'prompt' must end with a user's turn", "ends-in-assistant")
    return messages


def _turns(value: Any, role: Any, name: str) -> Conversation:
    return (Message(role, value),) if isinstance(value, str) else messages_from_rows(value, name)
