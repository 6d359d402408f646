"""The minimal form of a finding: the shortest prompt that still fails.

Delta debugging (Zeller and Hildebrandt 2002, "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 28(2)), coarse to fine:
the beginning put in the answer's mouth, earlier exchanges, sentences of the last turn, its words. What is left is 1-minimal: no
single part can go. The target should sample greedily (temperature 0), or luck passes for a cause.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from accord.redteam.target import Reader, Target
from accord.redteam.writer import keeps_subject
from accord.types import Attempt, Conversation

_T = TypeVar("_T")
_SENTENCE = re.compile(r"\S.*?(?:[.!?:]+[\"')\]]*(?:\s+|$)|\n+|$)", re.DOTALL)
_WORD = re.compile(r"\S+\s*")


@dataclass(frozen=True, slots=True)
class Minimal:
    """The shortest failing form found. `is_minimal`: no single word or exchange can go; False where the queries ran out first.

    `reproduced` is False where what was found did not fail again: then the form is the one found, and nothing was learned.
    """

    sent: Conversation
    prefill: str
    reproduced: bool
    is_minimal: bool
    queries: int


class _SpentError(Exception):
    """No query is left."""


@dataclass
class _Search:
    """Asks whether a shorter form still fails, each form once, and keeps the shortest that did."""

    target: Target
    best: Conversation
    prefill: str
    read: Reader | None

    def __post_init__(self) -> None:
        self.known: dict[tuple[tuple[str, ...], str], bool] = {}
        self.goal = self.target.goal.messages[-1].content
        # Else everything would shrink to a word that any model answers. An encoding hides the subject: nothing to hold on to.
        self.must_keep = keeps_subject(self.goal, self.best[-1].content)

    async def fails(self, sent: Conversation, prefill: str) -> bool:
        """Whether the model fails on this form; it is then the best one.

        Raises:
            _SpentError: it would have to be asked and no query is left.
        """
        text = sent[-1].content
        if not text.strip() or (self.must_keep and not keeps_subject(self.goal, text)):
            return False
        # A message may carry tool calls, which have no hash; what shrinks is text alone.
        key = (tuple(message.content for message in sent), prefill)
        if key not in self.known:
            if self.target.left <= 0:
                raise _SpentError
            self.known[key] = self.target.succeeded(await self.target.ask(sent, prefill, "shorter form", self.read))
        if self.known[key]:
            self.best, self.prefill = sent, prefill
        return self.known[key]


async def minimal_form(failing: Attempt, target: Target, read: Reader | None = None) -> Minimal:
    """Return the shortest form of a failing attempt that the target still fails on, within the target's budget.

    `read` is the attack's reader, where it had one: what an indirect injection is judged by, say.
    """
    first = len(target.attempts)
    search = _Search(target, failing.sent, failing.prefill, read)
    reproduced = done = False
    try:
        reproduced = await search.fails(failing.sent, failing.prefill)
        if reproduced:
            if failing.prefill:
                await search.fails(failing.sent, "")
            await _shorten(search)
            done = True
    except _SpentError:
        pass
    return Minimal(search.best, search.prefill, reproduced, done, len(target.attempts) - first)


async def _shorten(search: _Search) -> None:
    """Take out exchanges, then sentences, then words. System prompts stay: they belong to what is attacked."""
    system = tuple(m for m in search.best if m.role == "system")
    *before, last = _exchanges(search.best)

    async def without_exchanges(kept: Sequence[Conversation]) -> bool:
        return await search.fails((*system, *(m for e in kept for m in e), *last), search.prefill)

    if before and not await without_exchanges([]):
        await ddmin(before, without_exchanges)

    async def with_text(kept: Sequence[str]) -> bool:
        final = replace(search.best[-1], content="".join(kept).strip())
        return await search.fails((*search.best[:-1], final), search.prefill)

    for unit in (_SENTENCE, _WORD):
        await ddmin(unit.findall(search.best[-1].content), with_text)


def _exchanges(messages: Conversation) -> list[Conversation]:
    """Return the turns in groups that each begin with a user's: an answer or a tool's result goes with its question."""
    groups: list[Conversation] = []
    for message in messages:
        if message.role == "system":
            continue
        if message.role == "user" or not groups:
            groups.append((message,))
        else:
            groups[-1] = (*groups[-1], message)
    return groups


async def ddmin(parts: Sequence[_T], fails: Callable[[Sequence[_T]], Awaitable[bool]]) -> list[_T]:
    """Return a 1-minimal part of `parts` that still fails; all of them fail together, and one always stays.

    In rounds of n chunks, each chunk is left out in turn: what fails without one goes on with it gone; where none can go,
    chunks are halved, down to single parts.
    """
    kept, n = list(parts), 2
    while len(kept) >= 2:
        size = -(-len(kept) // n)
        for start in range(0, len(kept), size):
            rest = kept[:start] + kept[start + size :]
            if rest and await fails(rest):
                kept, n = rest, max(n - 1, 2)
                break
        else:
            if size == 1:
                break
            n = min(2 * n, len(kept))
    return kept
