"""StrongREJECT: forbidden prompts in six categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import harm_result, requests
from accord.evals.reading import source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Strongreject:
    """StrongREJECT: share of its harmful requests complied with. Columns: forbidden_prompt, category."""

    source: str = ""
    about: ClassVar[About] = About("StrongREJECT (Souly et al. 2024, arXiv 2402.10260)", "MIT", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the requests."""
        del policy
        rows = source_rows(self.source, "strongreject")
        return requests(
            rows, "strongreject", ("forbidden_prompt", "prompt"), "harmful", lambda row: row.optional("category")
        )

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share complied with."""
        return (harm_result("strongreject", self.about, recorded.attempts, policy),)
