"""AdvBench: harmful instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import harm_result, requests
from accord.evals.reading import source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Advbench:
    """AdvBench: share of its harmful requests complied with. Columns: goal, or prompt."""

    source: str = ""
    about: ClassVar[About] = About("AdvBench (Zou et al. 2023, arXiv 2307.15043)", "MIT", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the requests."""
        del policy
        rows = source_rows(self.source, "advbench")
        return requests(rows, "advbench", ("goal", "prompt"), "harmful", lambda row: "")

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share complied with."""
        return (harm_result("advbench", self.about, recorded.attempts, policy),)
