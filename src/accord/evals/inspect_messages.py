"""Inspect's messages <-> Accord's turns, with calls of tools in the text form that most open models were trained on.

Tools are described in the system prompt, a call is `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` in the answer, and a
result comes back in a user's turn as `<tool_response>`: the convention of Hermes and Qwen, whose chat templates write the same.
A model that was never trained on tools may not follow it; what it then says is an answer without a call.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall, ToolChoice, ToolFunction, ToolInfo

from accord.errors import DataError
from accord.scorers.evidence import CALL
from accord.types import Conversation, Message, Role


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation that waits for an answer, and the answer's beginning where the task has put one there."""

    messages: Conversation
    prefill: str


def asked_of(messages: Sequence[ChatMessage], tools: Sequence[ToolInfo], choice: ToolChoice) -> Asked:
    """Return what a model is asked, as turns of text.

    Turns of one role in a row become one, since many chat templates want them in alternation; an assistant's last turn is the
    beginning of the answer.

    Raises:
        DataError: a message holds something else than text.
    """
    offered = [] if choice == "none" else list(tools)
    turns = [Message("system", _described(offered, choice))] if offered else []
    turns += [Message(*_turn(message)) for message in messages]
    system = [t for t in turns if t.role == "system"]
    if offered and len(system) > 1:
        # The task's own system prompt first, then the tools.
        turns = [Message("system", "\n\n".join(t.content for t in (*system[1:], system[0])))] + [
            t for t in turns if t.role != "system"
        ]
    prefill = ""
    if turns and turns[-1].role == "assistant":
        prefill = turns.pop().content
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = Message(turn.role, f"{joined[-1].content}\n\n{turn.content}")
        else:
            joined.append(turn)
    return Asked(tuple(joined), prefill)


def text_of(message: ChatMessage) -> str:
    """Return a message's text; reasoning that a model wrote before is left out, as its next turn would not see it.

    Raises:
        DataError: the message holds an image, a sound or another thing that is no text.
    """
    if isinstance(message.content, str):
        return message.content
    other = sorted({part.type for part in message.content if part.type not in ("text", "reasoning")})
    if other:
        raise DataError(
            f"a message of the {message.role} holds {', '.join(other)}; Accord's models read text alone: leave such samples out"
        )
    return "\n".join(part.text for part in message.content if part.type == "text")


def answer_of(text: str, tools: Sequence[ToolInfo], first_call: int) -> ChatMessageAssistant:
    """Return an answer as Inspect's message, with the calls of tools that it makes, numbered from `first_call`.

    A call that cannot be read carries why, so that the model is told; it is no answer without a call.
    """
    calls = CALL.findall(text) if tools else []
    if not calls:
        return ChatMessageAssistant(content=text, source="generate")
    names = {tool.name for tool in tools}
    made = [_call(call, names, f"call_{first_call + i}") for i, call in enumerate(calls)]
    return ChatMessageAssistant(content=CALL.sub("", text).strip(), tool_calls=made, source="generate")


def _call(text: str, names: set[str], id: str) -> ToolCall:
    try:
        read: Any = json.loads(text)
    except json.JSONDecodeError as error:
        return ToolCall(id, "unknown", {}, parse_error=f"the call is no JSON ({error.msg}): {text:.200}")
    name, arguments = (read.get("name"), read.get("arguments", {})) if isinstance(read, dict) else (None, {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return ToolCall(
            id, "unknown", {}, parse_error=f"the call lacks a name or its arguments are no object: {text:.200}"
        )
    if name not in names:
        return ToolCall(
            id, name, arguments, parse_error=f"there is no tool '{name}'; there is {', '.join(sorted(names))}"
        )
    return ToolCall(id, name, arguments)


def _turn(message: ChatMessage) -> tuple[Role, str]:
    text = text_of(message)
    if isinstance(message, ChatMessageTool):
        said = f"error: {message.error.message}" if message.error else text
        return "user", f"<tool_response>\n{said}\n</tool_response>"
    if isinstance(message, ChatMessageAssistant) and message.tool_calls:
        calls = [json.dumps({"name": c.function, "arguments": c.arguments}) for c in message.tool_calls]
        return "assistant", "\n".join([*([text] if text else []), *(f"<tool_call>\n{c}\n</tool_call>" for c in calls)])
    return message.role, text


def _described(tools: Sequence[ToolInfo], choice: ToolChoice) -> str:
    lines = [
        json.dumps(
            {
                "type": "function",
                "function": tool.model_dump(include={"name", "description", "parameters"}, exclude_none=True),
            }
        )
        for tool in tools
    ]
    must = ""
    if isinstance(choice, ToolFunction):
        must = f"\nYou must call the function '{choice.name}'."
    elif choice == "any":
        must = "\nYou must call one of the functions."
    return (
        "You may call functions. Their signatures, as JSON, within <tools></tools>:\n<tools>\n"
        + "\n".join(lines)
        + '\n</tools>\nTo call one, write: <tool_call>{"name": "its name", "arguments": {"argument": "value"}}</tool_call>'
        + must
    )
