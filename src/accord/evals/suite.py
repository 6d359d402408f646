"""What a suite is: items to put to a model, and how the recorded answers become results.

A suite is one file of `accord.evals.suites`. Its constructor's fields are its options, its docstring its row in the docs. It
asks in one of three ways: a prompt, plain or dressed by an attack, whose answer a scorer reads, a question whose choices are
compared by likelihood, or a problem whose answer must match; or it is given what was measured elsewhere. It never asks a model
itself, so that every suite is run, cached and resumed by the same runner.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

from accord.errors import AccordError, DataError
from accord.evals.results import SuiteResult
from accord.policy.schema import Policy
from accord.types import Attempt, Conversation, Message, Prompt


@dataclass(frozen=True, slots=True)
class Question:
    """A question answered by likelihood. `right` indexes the choices that are right; `group` is its subtask.

    `marks` say what each choice stands for, where a suite asks more than whether it is right.

    Raises:
        DataError: choices that cannot be told apart or say nothing, or none of them right.
    """

    id: str
    messages: Conversation
    choices: tuple[str, ...]
    right: tuple[int, ...]
    family: str
    group: str = ""
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.choices) < 2 or not all(isinstance(c, str) and c.strip() for c in self.choices):
            raise DataError(f"the choices are {self.choices!r:.80}; expected at least two texts")
        if len(set(self.choices)) < len(self.choices):
            raise DataError(f"two choices are equal, so they cannot be told apart: {self.choices!r:.80}")
        if not self.right or not set(self.right) <= set(range(len(self.choices))):
            raise DataError(
                f"of {len(self.choices)} choices {self.right!r:.40} are to be right; expected at least one of them"
            )


@dataclass(frozen=True, slots=True)
class Problem:
    """A request whose answer is compared with what is expected, by the suite's own rule."""

    id: str
    messages: Conversation
    expected: str
    family: str
    group: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What was measured elsewhere: nothing is asked. `value` None, and why, where it was not; `error` where it failed."""

    id: str
    family: str
    value: float | None
    reason: str = ""
    group: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True)
class Dressed:
    """A harmful goal as `attack` puts it: `messages` are asked, and the answer is judged against the goal in plain words.

    `veiled`: a model may not see the goal through the disguise, so that what says nothing of its subject is no answer to it.
    """

    id: str
    goal: Prompt
    attack: str
    messages: Conversation
    veiled: bool = False


Item = Prompt | Question | Problem | Dressed | Given
Dress = Callable[[Prompt], Sequence[Dressed]]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A question with the log-probability of each choice's text behind it; none, and why, where they are not known."""

    question: Question
    logps: tuple[float, ...]
    reason: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True)
class Solved:
    """A problem with its answer; `error` says why there is none."""

    problem: Problem
    answer: str
    truncated: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that a model was asked in one suite, in the items' order."""

    attempts: tuple[Attempt, ...] = ()
    ranked: tuple[Ranked, ...] = ()
    solved: tuple[Solved, ...] = ()
    given: tuple[Given, ...] = ()


@dataclass(frozen=True, slots=True)
class About:
    """Where a suite's items come from.

    `max_new_tokens` bounds its answers where answers are sampled. So many consecutive items are `together`: a limit takes all of
    them or none.
    """

    source: str
    licence: str
    max_new_tokens: int = 64
    together: int = 1


class Suite(Protocol):
    """Items and how they are measured. `items` may depend on the policy; `measure` is a pure function."""

    about: ClassVar[About]

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return what is asked, each id once.

        Raises:
            DataError: the source cannot be read.
            SkippedError: there is nothing to ask, and why.
        """

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the results, one a metric."""


class SkippedError(AccordError):
    """A suite that cannot be run here; the evaluation goes on without it and says so."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A suite as it was asked for, and its items after `--limit`."""

    name: str
    suite: Suite
    items: tuple[Item, ...]
    content_hash: str = field(default="")


def limited(items: Sequence[Item], limit: int, together: int = 1) -> tuple[Item, ...]:
    """Return at most `limit` times `together` items (0: all), spread evenly, so that a small sample meets every part of a list."""
    n = len(items) // together
    if not limit or n <= limit:
        return tuple(items)
    kept = (i * n // limit for i in range(limit))
    return tuple(item for i in kept for item in items[together * i : together * (i + 1)])


def content_hash(items: Sequence[Item]) -> str:
    """Return a hash of all that is asked and of what counts as right."""
    rows: list[Any] = [asdict(item) for item in items]
    return hashlib.sha256(json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def user(text: str) -> Conversation:
    """Return a conversation of one user's turn."""
    return (Message("user", text),)
