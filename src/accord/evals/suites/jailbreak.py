"""Goals that are already dressed by attacks, from a file: a fixed set, so that two models are asked the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import harm_result
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded, SkippedError
from accord.evals.suites.harm import of_policy
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Jailbreak:
    """Share of dressed harmful goals complied with. `source`: prompts in JSONL, each with its goal as family and attack as form."""

    source: str = ""
    about: ClassVar[About] = About("the file given", "the file's own")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the dressed prompts."""
        if not self.source:
            raise SkippedError(
                "needs a file of dressed prompts, such as `accord redteam` writes: --suite jailbreak=FILE"
            )
        return of_policy(self.source, policy, ("harmful",))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return attack success over all dressed prompts; the interval is clustered by goal."""
        return (harm_result("jailbreak", self.about, recorded.attempts, policy, "attack_success_rate"),)
