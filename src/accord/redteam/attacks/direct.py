"""The goal in plain words."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from accord.models.completer import Ability
from accord.redteam.target import Budget, Target
from accord.types import Prompt


@dataclass(frozen=True)
class Direct:
    """Asks for the goal as it is: what every other attack is held against."""

    needs: ClassVar[frozenset[Ability]] = frozenset()
    white_box: ClassVar[bool] = False

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Ask once."""
        await target.ask(goal.messages)
