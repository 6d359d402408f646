"""The starter's multiple-choice questions: usefulness that must not be lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.data.records import read_choices
from accord.evals.likelihood import accuracy_results
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.policy.schema import Policy
from accord.starter import capability_path


@dataclass(frozen=True, slots=True)
class Capability:
    """Share of everyday multiple-choice questions answered rightly by likelihood, plain and length-normalised."""

    source: str = ""
    about: ClassVar[About] = About("accord-starter, written for this project", "Apache-2.0")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the questions of `source` or the starter."""
        del policy
        choices = read_choices(self.source or capability_path())
        return tuple(Question(c.id, user(c.question), c.choices, (c.answer,), c.family, c.family) for c in choices)

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return accuracy by likelihood and by likelihood a character."""
        del policy
        return accuracy_results("capability", self.about, recorded.ranked)
