"""What answers: a local model or a server, asked for one answer at a time by many coroutines.

What a completer cannot do it does not declare; a failed request is a completion with an error, so that it is counted as one.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from accord.models.sampling import Sampling
from accord.types import Conversation


class Ability(enum.StrEnum):
    """What a completer can do beside answering."""

    PREFILL = "prefill"
    LOGPS = "log-probabilities"
    GRADIENTS = "gradients"


@dataclass(frozen=True, slots=True)
class Request:
    """One answer asked for. `prefill` is put in the answer's mouth; `key` and the sampling's seed fix what is drawn."""

    messages: Conversation
    sampling: Sampling
    key: str
    prefill: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, without its prefill. `error` says why there is none: the request failed and was given up."""

    text: str
    n_tokens: int = 0
    truncated: bool = False
    error: str = ""


class Completer(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """How a person names it."""

    @property
    def fingerprint(self) -> str:
        """What changes when its answers may: weights and template, or the server's address and model."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can do beside answering."""

    async def complete(self, request: Request) -> Completion:
        """Return an answer, or the error that it ended in; nothing is raised for a failed request."""

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Return the log-probability of each answer's text, the end of its turn left out.

        Raises:
            ModelError: LOGPS is not among its abilities.
        """

    async def close(self) -> None:
        """Release what it holds."""
