r"""Other people's files: conversations and comparisons as the ecosystem writes them, told apart row by row.

| format | row |
|---|---|
| `messages` | `{"messages": [{"role", "content"}, …]}` |
| `prompt-chosen-rejected` | TRL's explicit prompt: text or message lists |
| `chosen-rejected` | TRL's implicit prompt: what both have in common at the start |
| `hh-rlhf` | `chosen` and `rejected` as `\n\nHuman: … \n\nAssistant: …` (Bai et al. 2022, arXiv 2204.05862) |

Left out: answers of several turns, and answers that carry tool calls; such rows are refused with their line.
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from accord.data.jsonl import Row, read_rows, refuse
from accord.data.messages import messages_from_rows, messages_to_rows
from accord.errors import DataError, nearest
from accord.types import Comparison, Conversation, Message, Split

_TURN = re.compile(r"\n\n(Human|Assistant):")
_HH_START = "\n\nHuman:"


class Format(enum.StrEnum):
    """How a row says what it says."""

    MESSAGES = "messages"
    EXPLICIT = "prompt-chosen-rejected"
    IMPLICIT = "chosen-rejected"
    HH = "hh-rlhf"


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and two answers, as read: possibly equal or empty, which `fault` says."""

    messages: Conversation
    chosen: str
    rejected: str

    @property
    def fault(self) -> Literal["identical", "empty-answer"] | None:
        """Why no model can learn from the pair, by the code of `accord data check`, or None."""
        if self.chosen.strip() == self.rejected.strip():
            return "identical"
        return None if self.chosen.strip() and self.rejected.strip() else "empty-answer"


def detect(row: Mapping[str, Any]) -> Format:
    """Return the format of one row.

    Raises:
        DataError: if it has none of the known keys.
    """
    if "messages" in row:
        return Format.MESSAGES
    if "chosen" in row and "rejected" in row:
        if row.get("prompt") is not None:
            return Format.EXPLICIT
        hh = any(isinstance(row[side], str) and row[side].startswith(_HH_START) for side in ("chosen", "rejected"))
        return Format.HH if hh else Format.IMPLICIT
    known = ("messages", "chosen", "rejected")
    keys = ", ".join(f"'{key}'{nearest(key, known) if key not in (*known, 'prompt') else ''}" for key in row)
    raise DataError(
        f"no known format: the keys are {keys or 'none'}; expected 'messages', or 'chosen' and 'rejected', which may "
        "stand beside 'prompt'"
    )


def read_conversations(path: str | Path) -> list[Conversation]:
    """Return the conversations of a file of `messages` rows; other keys of a row are not read.

    Raises:
        DataError: one message with file and line of every fault.
    """
    conversations: list[Conversation] = []
    faults: list[tuple[int, str]] = []
    for row in read_rows(path):
        try:
            found = detect(row.data)
            if found is not Format.MESSAGES:
                raise DataError(f"the row is in format {found}; expected 'messages'")
            conversations.append(messages_from_rows(row.data["messages"]))
        except DataError as error:
            faults.append((row.line, str(error)))
    refuse(path, faults)
    return conversations


def parse_pair(row: Mapping[str, Any]) -> Pair:
    """Return the prompt and the two answers of a comparison's row, in any of the three formats.

    A prompt that is plain text becomes one user's turn.

    Raises:
        DataError: if the row is no comparison, or more than one turn follows the prompt.
    """
    found = detect(row)
    if found is Format.MESSAGES:
        raise DataError("the row is a conversation; expected 'chosen' and 'rejected'")
    chosen, rejected = row["chosen"], row["rejected"]
    if found is Format.EXPLICIT:
        return _explicit(row["prompt"], chosen, rejected)
    if found is Format.HH:
        return _split(parse_hh(str(chosen)), parse_hh(str(rejected)))
    if isinstance(chosen, str) and isinstance(rejected, str):
        prompt, first, second = split_text(chosen, rejected)
        return Pair((Message("user", prompt),), first, second)
    return _split(messages_from_rows(chosen, "chosen"), messages_from_rows(rejected, "rejected"))


def comparison_of(row: Row, pair: Pair, origin: str) -> Comparison:
    """Return the comparison of a row and its parsed pair; `origin` names the file where the row names no source.

    Without an id it is `origin` and line; without a family, all comparisons of one prompt share one.

    Raises:
        DataError: if `split` is unknown or one of the keys holds something else than it should.
    """
    got: dict[str, str] = {}
    for name in ("id", "family", "source", "clause", "split", "group_id"):
        value = row.data.get(name, "")
        if name == "id" and isinstance(value, int):
            value = str(value)
        if not isinstance(value, str):
            raise DataError(f"'{name}' is {value!r:.60}; expected text")
        got[name] = value
    split = got["split"] or "train"
    if split not in get_args(Split):
        raise DataError(f"'split' is '{split}'{nearest(split, get_args(Split)) or '; expected train or verify'}")
    canonical = json.dumps(messages_to_rows(pair.messages), sort_keys=True)
    family = got["family"] or hashlib.sha256(canonical.encode()).hexdigest()[:16]
    id = got["id"] or f"{origin}:{row.line}"
    source = got["source"] or origin
    return Comparison(
        id=id,
        messages=pair.messages,
        chosen=pair.chosen,
        rejected=pair.rejected,
        family=family,
        split=cast(Split, split),
        source=source,
        clause=got["clause"],
        preference=_share(row.data, "preference"),
        strength=_share(row.data, "strength"),
        group_id=got["group_id"],
        chosen_safe=_flag(row.data, "chosen_safe"),
        rejected_safe=_flag(row.data, "rejected_safe"),
    )


def _share(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        raise DataError(f"'{name}' is {value!r:.60}; expected a number from 0 to 1")
    return value


def _flag(row: Mapping[str, Any], name: str) -> bool | None:
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise DataError(f"'{name}' is {value!r:.60}; expected true or false")
    return value


def parse_hh(text: str) -> Conversation:
    r"""Return the turns of `\n\nHuman: … \n\nAssistant: …` text, each without the space around it.

    Turns of one speaker in a row (the set has a few) are one turn of two paragraphs. A text that ends in
    `\n\nAssistant:` has an empty last answer.

    Raises:
        DataError: if the text does not start with a human's turn.
    """
    if not text.startswith(_HH_START):
        raise DataError(f"the text starts with {text[:30]!r}; expected '\\n\\nHuman: …'")
    parts = _TURN.split(text)[1:]
    turns: list[Message] = []
    for speaker, said in zip(parts[::2], parts[1::2], strict=True):
        role: Literal["user", "assistant"] = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{said.strip()}".strip())
        else:
            turns.append(Message(role, said.strip()))
    return tuple(turns)


def format_hh(messages: Conversation) -> str:
    r"""Return turns as `\n\nHuman: … \n\nAssistant: …` text.

    Raises:
        DataError: if a turn is neither the user's nor the assistant's, or a text holds a speaker's mark.
    """
    names = {"user": "Human", "assistant": "Assistant"}
    for message in messages:
        if message.role not in names or message.extra or _TURN.search(f"\n\n{message.content}"):
            raise DataError(f"a turn of role '{message.role}' cannot be written in hh-rlhf's format without loss")
    return "".join(f"\n\n{names[message.role]}: {message.content}" for message in messages)


def split_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Return the longest shared start of two texts, and what is left of each.

    A space just before the first difference goes to the answers, as in TRL (a token usually begins with its space);
    where one text is the start of the other the shared text stays whole. `prompt + answer` is always the text given.
    """
    length = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        length += 1
    if 0 < length < min(len(chosen), len(rejected)) and chosen[length - 1] == " ":
        length -= 1
    return chosen[:length], chosen[length:], rejected[length:]


def _split(chosen: Conversation, rejected: Conversation) -> Pair:
    """Split off the turns that two conversations share."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if chosen == rejected and chosen[-1].role == "assistant":
        shared -= 1  # the prompt is what stands before the answer, equal though it is
    prompt = chosen[:shared]
    return _pair(prompt, _answer(chosen[shared:], "chosen"), _answer(rejected[shared:], "rejected"))


def _explicit(prompt: Any, chosen: Any, rejected: Any) -> Pair:
    if isinstance(prompt, str) and prompt.startswith(_HH_START):
        turns = parse_hh(prompt)
        if turns[-1] == Message("assistant", ""):
            turns = turns[:-1]
    else:
        turns = (Message("user", prompt),) if isinstance(prompt, str) else messages_from_rows(prompt, "prompt")
    sides: list[Conversation] = []
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(side, str):
            sides.append((Message("assistant", side),))
        else:
            sides.append(messages_from_rows(side, name))
    first, second = sides
    if all(len(side) > 1 for side in sides):  # whole conversations beside their prompt, as in UltraFeedback
        pair = _split(first, second)
        if pair.messages != turns and pair.messages[-1:] != turns:
            raise DataError("'prompt' is not what 'chosen' and 'rejected' begin with; expected the same turns")
        return pair
    return _pair(turns, _answer(first, "chosen"), _answer(second, "rejected"))


def _pair(prompt: Conversation, chosen: str, rejected: str) -> Pair:
    pair = Pair(prompt, chosen, rejected)
    if pair.fault is None and (not prompt or prompt[-1].role not in ("user", "tool")):
        last = prompt[-1].role if prompt else "nothing"
        raise DataError(
            f"the prompt ends with {last}; expected a user's turn that both answers follow", "ends-in-assistant"
        )
    return pair


def _answer(turns: Conversation, name: str) -> str:
    """Return the one answer after the prompt, empty where there is none."""
    if not turns:
        return ""
    if len(turns) > 1 or turns[0].role != "assistant":
        roles = ", ".join(turn.role for turn in turns)
        raise DataError(f"after the shared prompt '{name}' goes on with turns of {roles}; expected one of assistant")
    if turns[0].extra:
        raise DataError(f"'{name}' carries {', '.join(sorted(turns[0].extra))}, which an answer of text cannot keep")
    return turns[0].content
