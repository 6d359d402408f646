"""Turns of a conversation <-> the `{"role", "content"}` objects that the ecosystem writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

from accord.errors import DataError, nearest
from accord.types import Conversation, Message, Role

ROLES: tuple[str, ...] = get_args(Role)


def messages_from_rows(value: Any, what: str = "messages") -> Conversation:
    """Return the turns in a JSON list of messages.

    What stands beside role and content (tool calls, names) is kept in `extra` as it is; a key that is null says nothing
    and is dropped, so that columnar files do not leak invented keys into a prompt. Content may be missing only where
    tool calls stand in its place.

    Raises:
        DataError: if the list is empty or a message has no known role or no text.
    """
    if not isinstance(value, list) or not value:
        raise DataError(f"'{what}' is {_shown(value)}; expected a list of messages with role and content")
    return tuple(_message(item, f"{what}[{index}]") for index, item in enumerate(value))


def messages_to_rows(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the JSON objects of turns: role, content and what `extra` holds, and no other key."""
    rows = []
    for message in messages:
        # A turn made of tool calls came without content, and a key that it never had must not appear.
        content = {} if not message.content and "tool_calls" in message.extra else {"content": message.content}
        rows.append({"role": message.role, **content, **message.extra})
    return rows


def with_system(system: str, messages: Sequence[Message]) -> Conversation:
    """Put a system prompt before a conversation; one that this begins with goes on in the same turn."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{system}\n\n{messages[0].content}"), *messages[1:])
    return (Message("system", system), *messages)


def show(messages: Sequence[Message]) -> str:
    """Return turns as text for a person: what each says, and what stands beside it as JSON, nothing else."""
    lines = []
    for row in messages_to_rows(messages):
        beside = {key: value for key, value in row.items() if key not in ("role", "content")}
        lines.append(f"[{row['role']}] {row.get('content', '')}{_json(beside)}".rstrip())
    return "\n".join(lines)


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict):
        raise DataError(f"'{where}' is {_shown(item)}; expected an object with role and content")
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        hint = nearest(role, ROLES) if isinstance(role, str) else ""
        raise DataError(f"'{where}' has role {_shown(role)}{hint or '; expected one of ' + ', '.join(ROLES)}")
    extra = {key: value for key, value in item.items() if key not in ("role", "content") and value is not None}
    if content is None and extra.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise DataError(f"'{where}' has content {_shown(content)}; expected text")
    return Message(role, content, extra)


def _json(beside: dict[str, Any]) -> str:
    return f" {json.dumps(beside, ensure_ascii=False)}" if beside else ""


def _shown(value: Any) -> str:
    text = "missing or null" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
