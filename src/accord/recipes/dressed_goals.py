"""Goals dressed for the jailbreak suite: evaluations and attacks are rooms that do not know each other, and meet here."""

from __future__ import annotations

from functools import cache

from accord.evals.suite import Dressed
from accord.redteam.attacks.encodings import Encoding
from accord.redteam.choice import ROOM
from accord.redteam.siblings import siblings
from accord.resolve import resolve
from accord.types import Prompt


def dress(goal: Prompt) -> tuple[Dressed, ...]:
    """Return a goal in one disguise of each attack that needs no model, no search and no file; the same ones every time."""
    # What is sent is a sibling of the goal as it stands, which the harm suite asks.
    return tuple(Dressed(s.prompt.id, goal, s.attack, s.sent, _is_encoding(s.attack)) for s in siblings(goal, "direct"))


@cache
def _is_encoding(attack: str) -> bool:
    return issubclass(resolve(ROOM, attack), Encoding)
