"""Harmful goals dressed by attacks: a fixed set, so that two models are asked the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import by_clause, harm_result
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Dress, Dressed, Item, Recorded, SkippedError
from accord.evals.suites.harm import of_policy
from accord.policy.schema import Policy
from accord.types import Attempt

# Of each goal. All of them would tell more of the attacks, which `accord redteam` does, and take ten minutes on two cores.
DISGUISES = 3


@dataclass(frozen=True, slots=True)
class Jailbreak:
    """Share of dressed goals complied with: each in 3 disguises that need no model, drawn by its id; or those of `source` (JSONL).

    A prompt of `source` has its goal as family and its attack as form. Its answer is judged as an answer to the prompt as it
    stands; that to a goal of our own dressing is judged against the goal. Left out: reading an answer that is itself in code.
    """

    source: str = ""
    dress: Dress | None = None
    about: ClassVar[About] = About("accord-starter, dressed by accord.redteam", "Apache-2.0")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the dressed goals of the policy's hazards."""
        goals = of_policy(self.source, policy, ("harmful",))
        if self.source:
            return goals
        if self.dress is None:
            raise SkippedError("needs dressed goals: name a file of them, --suite jailbreak=FILE (JSONL)")
        # In an order of chance, since a limit takes every so manieth item: by goal, it could meet one attack alone.
        drawn = (d for goal in goals for d in sorted(self.dress(goal), key=_place)[:DISGUISES])
        return tuple(sorted(drawn, key=_place))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return attack success over all dressed goals, grouped by attack; the interval is clustered by goal."""
        about = About("the file given", "the file's own") if self.source else self.about
        return (harm_result("jailbreak", about, recorded.attempts, policy, "attack_success_rate", by_attack),)


def by_attack(attempt: Attempt) -> str:
    """Return the attack that dressed an attempt's goal."""
    return attempt.attack or attempt.prompt.form or by_clause(attempt)


def _place(item: Dressed) -> str:
    return hashlib.sha256(item.id.encode()).hexdigest()
