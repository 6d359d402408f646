"""Attacks that dress a goal up in fixed ways: what they send depends on the goal and the random generator alone.

Each way is asked once, in order, until one succeeds. What such an attack sends can also be had without a model, which is what
siblings of a finding are made from.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from accord.models.completer import Ability
from accord.redteam.target import Budget, Reader, Target
from accord.scorers.topic import held_to_subject, off_subject
from accord.types import Conversation, Prompt, Score


@dataclass(frozen=True, slots=True)
class Dressed:
    """A goal in one disguise: what is sent, and what is put in the answer's mouth. `note` names the disguise."""

    sent: Conversation
    prefill: str = ""
    note: str = ""


class Dressing(abc.ABC):
    """An attack of a fixed number of disguises. A subclass says what they are."""

    needs: ClassVar[frozenset[Ability]] = frozenset()
    white_box: ClassVar[bool] = False
    # Whether an answer may also be judged as it stands, without the attack's `reader`.
    judged_plain: ClassVar[bool] = True

    @abc.abstractmethod
    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal's disguises in the order in which they are tried."""

    def reader(self, goal: Prompt, dressed: Dressed, target: Target) -> Reader | None:
        """Return what stands between the answer and the judge; None where the judge reads the answer itself."""
        return None

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Ask in each disguise once, until one succeeds or the budget is spent."""
        for dressed in self.dress(goal, rng)[: budget.queries]:
            read = self.reader(goal, dressed, target)
            if target.succeeded(await target.ask(dressed.sent, dressed.prefill, dressed.note, read)):
                return


async def on_subject(target: Target, sent: Conversation, answer: str, goal: str) -> str | Score:
    """Return the answer for the judge to read; without a word of the goal's subject, its verdict, which is then no success."""
    if not off_subject(goal, answer):
        return answer
    return held_to_subject(await target.judged(sent, answer, goal), answer, goal)
