"""What an attack is."""

from __future__ import annotations

import random
from typing import ClassVar, Protocol

from accord.models.completer import Ability
from accord.redteam.target import Budget, Target
from accord.types import Prompt


class Attack(Protocol):
    """A way to get a goal out of a model. Constructor fields are its options; its docstring is its row in the docs.

    An attack that passes `read` to `target.ask` for the goal has the method `reader(goal, dressed, target)` (as `Dressing`), by
    which answers are read when its findings are asked again; without it the judge reads the answers themselves. The method raises
    `SettingsError` where what was sent is not all that the model was given.

    `needs` are abilities of the model without which it cannot be run; `white_box` attacks have a budget of steps of their own.
    Whoever calls has read `target.attempts` when it returns, or is cut off by `BudgetSpentError`.
    """

    needs: ClassVar[frozenset[Ability]]
    white_box: ClassVar[bool]

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Try the goal through `target.ask` until the budget is spent, the attack is over, or it has succeeded."""
