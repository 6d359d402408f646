"""The goal in the past tense."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from accord.redteam.dressing import Dressed, Dressing
from accord.redteam.rewrites import in_the_past
from accord.redteam.target import in_place
from accord.types import Prompt

_TIMES = ("in the past", "in the days before computers")


@dataclass(frozen=True)
class PastTense(Dressing):
    """Asks how it was done in the past: training on refusals in the present tense does not carry over.

    Source: Andriushchenko and Flammarion 2024, "Does Refusal Training in LLMs Generalize to the Past Tense?"
    (arXiv 2407.11969). There another model rewords the goal; here fixed rules do, so that no attacker is needed.
    """

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal as a question about each of the times."""
        text = goal.messages[-1].content
        return [Dressed(in_place(goal, in_the_past(text, when)), note=when) for when in _TIMES]
