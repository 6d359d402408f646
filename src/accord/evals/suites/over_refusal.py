"""Benign requests that must be answered: contrast prompts that look harmful, and ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import refusal_result
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.evals.suites.harm import of_policy
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class OverRefusal:
    """Share of benign requests refused: contrast prompts, which look harmful, and ordinary ones."""

    source: str = ""
    about: ClassVar[About] = About("accord-starter, written for this project", "Apache-2.0")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the benign prompts of the policy's clauses, from `source` or the starter."""
        return of_policy(self.source, policy, ("contrast", "ordinary"))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share refused of contrast prompts and of ordinary ones, two results."""
        del policy
        kinds = ("contrast", "ordinary")
        return tuple(
            refusal_result("over_refusal", self.about, asked, f"{kind}_refusal")
            for kind in kinds
            if (asked := [a for a in recorded.attempts if a.prompt.kind == kind])
        )
