"""The goal in plain words."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from accord.redteam.dressing import Dressed, Dressing
from accord.types import Prompt


@dataclass(frozen=True)
class Direct(Dressing):
    """Asks for the goal as it is: what every other attack is held against."""

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal itself."""
        return [Dressed(goal.messages)]
