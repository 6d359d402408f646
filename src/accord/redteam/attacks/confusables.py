"""The goal in letters of another alphabet that look the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from accord.redteam.attacks.encodings import encode_confusables
from accord.redteam.dressing import Dressed, Dressing
from accord.redteam.target import in_place
from accord.types import Prompt


@dataclass(frozen=True)
class Confusables(Dressing):
    """Asks with Cyrillic look-alikes of Latin letters.

    Source: Boucher et al. 2021, "Bad Characters: Imperceptible NLP Attacks" (arXiv 2106.09898), homoglyphs.
    """

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal with look-alike letters."""
        encoded = encode_confusables(goal.messages[-1].content)
        return [Dressed(in_place(goal, encoded))]
