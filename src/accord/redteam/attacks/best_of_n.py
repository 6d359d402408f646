"""Many small random changes of the goal, until one gets through."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from accord.errors import SettingsError
from accord.models.completer import Ability
from accord.redteam.target import Budget, Target, in_place
from accord.types import Prompt


@dataclass(frozen=True)
class BestOfN:
    """Asks with letters shuffled within words, capitals drawn at random and single characters changed, until it succeeds.

    With strength sigma, a word's inner letters are shuffled with probability sqrt(sigma), a letter's case is flipped with
    sqrt(sigma), and a character moves by one code point with sigma cubed. Success must be read as "at least one of n", n being
    the attempt's number of queries.

    Source: Hughes et al. 2024, "Best-of-N Jailbreaking" (arXiv 2412.03556), section 2 and appendix B.
    """

    sigma: float = 0.4

    needs: ClassVar[frozenset[Ability]] = frozenset()
    white_box: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse a strength outside of [0, 1].

        Raises:
            SettingsError: it is.
        """
        if not 0 <= self.sigma <= 1:
            raise SettingsError(f"best_of_n: sigma is {self.sigma}; expected a number from 0 to 1")

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Ask with one change after another until one succeeds or the budget is spent."""
        text = goal.messages[-1].content
        while target.left > 0:
            if target.succeeded(await target.ask(in_place(goal, augmented(text, self.sigma, rng)))):
                return


def augmented(text: str, sigma: float, rng: random.Random) -> str:
    """Return `text` with random changes of strength `sigma`: 0 changes nothing."""
    scrambled = " ".join(_scrambled(w, rng) if rng.random() < sigma**0.5 else w for w in text.split(" "))
    flipped = [c.swapcase() if c.isalpha() and rng.random() < sigma**0.5 else c for c in scrambled]
    return "".join(_moved(c, rng) if rng.random() < sigma**3 else c for c in flipped)


def _scrambled(word: str, rng: random.Random) -> str:
    """Return a word with its inner letters shuffled: a reader goes by the first and the last."""
    if len(word) < 4:
        return word
    inner = list(word[1:-1])
    rng.shuffle(inner)
    return word[0] + "".join(inner) + word[-1]


def _moved(character: str, rng: random.Random) -> str:
    """Return a printable ASCII character moved by one code point; others stay."""
    moved = ord(character) + rng.choice((-1, 1))
    return chr(moved) if 33 <= ord(character) <= 126 and 33 <= moved <= 126 else character
