"""Siblings of a finding: its goal as other attacks would have put it.

A model trained on one disguise may have learned the disguise. Whether it learned the goal shows on the siblings. No model is
asked here; attacks that write with one (PAIR, crescendo, translation) make no siblings.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from accord.errors import SettingsError
from accord.redteam.dressing import Dressing
from accord.resolve import names_in, resolve
from accord.types import Conversation, Prompt

_ROOM = "accord.redteam.attacks"


@dataclass(frozen=True, slots=True)
class Sibling:
    """A goal as `attack` puts it; `note` names the disguise where the attack has several."""

    goal: Prompt
    attack: str
    sent: Conversation
    note: str = ""

    @property
    def prompt(self) -> Prompt:
        """The sibling as a prompt of the goal's clause, family and split, so that the fence holds for it too."""
        return replace(
            self.goal,
            id=f"{self.goal.id}~{self.attack}",
            messages=self.sent,
            form=self.attack,
            source=f"sibling of {self.goal.id}",
        )


def siblings(
    goal: Prompt, found_by: str, seed: int = 0, attacks: Mapping[str, Dressing] | None = None
) -> tuple[Sibling, ...]:
    """Return one sibling for each attack but `found_by`, in the attacks' order; the same ones for the same goal and seed.

    `attacks` are by default those that come with Accord and can speak for themselves: nothing put in the answer's mouth, no file,
    and an answer that a judge reads as it is.
    """
    found: list[Sibling] = []
    for name, attack in (attacks or _shipped()).items():
        if name == found_by:
            continue
        try:
            # Seeded by the attack's name: what one makes must not change when another is added.
            disguises = attack.dress(goal, random.Random(f"{seed}/{goal.id}/{name}"))
        except SettingsError:
            continue
        if disguises:
            found.append(Sibling(goal, name, disguises[0].sent, disguises[0].note))
    return tuple(found)


def _shipped() -> dict[str, Dressing]:
    made: dict[str, Dressing] = {}
    for name in names_in(_ROOM):
        attack = resolve(_ROOM, name)
        fixed = isinstance(attack, type) and issubclass(attack, Dressing)
        if fixed and attack.judged_plain and not attack.needs:
            made[name] = attack()
    return made
