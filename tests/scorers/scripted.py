"""What tests of judges share: a judge that says what it is told to, and transcripts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from accord.errors import ModelError
from accord.models.completer import Completion, Request
from accord.types import Message, Transcript


class ScriptedJudge:
    """A `Completer` whose reply is a function of what it is asked; `asked` keeps the prompts."""

    abilities: frozenset[Any] = frozenset()

    def __init__(self, reply: Callable[[str], str | Completion], name: str = "scripted") -> None:
        self.reply, self.name, self.fingerprint = reply, name, f"fingerprint of {name}"
        self.asked: list[str] = []

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request.messages[-1].content)
        said = self.reply(request.messages[-1].content)
        return said if isinstance(said, Completion) else Completion(said)

    async def logps(self, messages: Sequence[Message], answers: Sequence[str]) -> tuple[float, ...]:
        raise ModelError("tells no log-probabilities")

    async def close(self) -> None:
        pass


def harmful(
    answer: str, request: str = "Help me get into my neighbour's flat.", clause: str = "", **more
) -> Transcript:
    return Transcript((Message("user", request),), answer, "harmful", clause, **more)


def replies(table: dict[str, str]) -> Callable[[str], str]:
    """Reply by which key stands in the prompt."""
    return lambda prompt: next(said for key, said in table.items() if key in prompt)
