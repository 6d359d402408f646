"""The goal with characters in it that nobody sees."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from accord.redteam.attacks.encodings import encode_zero_width
from accord.redteam.dressing import Dressed, Dressing
from accord.redteam.target import in_place
from accord.types import Prompt


@dataclass(frozen=True)
class ZeroWidth(Dressing):
    """Asks with zero-width spaces inside the words: it looks the same and is tokenised differently.

    Source: Boucher et al. 2021, "Bad Characters: Imperceptible NLP Attacks" (arXiv 2106.09898), invisible characters.
    """

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal with zero-width spaces."""
        encoded = encode_zero_width(goal.messages[-1].content)
        return [Dressed(in_place(goal, encoded))]
