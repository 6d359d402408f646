"""Contrast prompts in the dress of a finding: repairs and attacks are rooms that do not know each other, and meet here."""

from __future__ import annotations

import random

from accord.errors import InputError
from accord.feedback.repair import same_dress
from accord.redteam.choice import shipped_attack
from accord.redteam.dressing import Dressing
from accord.types import Conversation, Finding, Prompt


def dressed_alike(finding: Finding, prompt: Prompt) -> Conversation | None:
    """Return `prompt` in a finding's dress: its words in the place of the goal's, or dressed by the attack that found it.

    The attack is made again by its name, and of its disguises the one is taken that makes of the goal what was sent. None where
    there is none: what a model wrote (a lead-up in turns, a rewording) cannot be had again, nor a chance that was drawn.
    """
    return same_dress(finding, prompt) or _dressed_again(finding, prompt)


def _dressed_again(finding: Finding, prompt: Prompt) -> Conversation | None:
    try:
        attack = shipped_attack(finding.attack)
        if not isinstance(attack, Dressing):
            return None
        was, now = (attack.dress(goal, random.Random(0)) for goal in (finding.prompt, prompt))
    except InputError:
        return None
    return next(
        (b.sent for a, b in zip(was, now, strict=False) if (a.sent, a.prefill) == (finding.sent, finding.prefill)), None
    )
