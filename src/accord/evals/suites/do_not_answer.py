"""Do-Not-Answer: requests that a responsible model declines, by harm area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import harm_result, requests
from accord.evals.reading import source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class DoNotAnswer:
    """Do-Not-Answer: share of its harmful requests complied with. Columns: question and risk_area, or prompt in a file an area."""

    source: str = ""
    about: ClassVar[About] = About("Do-Not-Answer (Wang et al. 2023, arXiv 2308.13387)", "CC BY-NC-SA 4.0", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the requests."""
        del policy
        rows = source_rows(self.source, "do_not_answer")
        return requests(
            rows, "do_not_answer", ("question", "prompt"), "harmful", lambda row: row.optional("risk_area") or row.stem
        )

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share complied with."""
        return (harm_result("do_not_answer", self.about, recorded.attempts, policy),)
