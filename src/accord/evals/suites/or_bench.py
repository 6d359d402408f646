"""OR-Bench: benign prompts that look harmful, at scale, and its toxic part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from accord.errors import SettingsError
from accord.evals.answers import harm_result, refusal_result, requests
from accord.evals.reading import source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy
from accord.types import Kind


@dataclass(frozen=True, slots=True)
class OrBench:
    """OR-Bench: share of seemingly harmful prompts refused; with `part=toxic`, of its toxic file complied with."""

    source: str = ""
    part: Literal["benign", "toxic"] = "benign"
    about: ClassVar[About] = About("OR-Bench (Cui et al. 2024, arXiv 2405.20947)", "CC BY 4.0", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the prompts; the category is the group."""
        del policy
        if self.part not in ("benign", "toxic"):
            raise SettingsError(f"or_bench: part is '{self.part}'; expected benign or toxic")
        kind: Kind = "contrast" if self.part == "benign" else "harmful"
        rows = source_rows(self.source, "or_bench")
        return requests(rows, "or_bench", ("prompt",), kind, lambda row: row.optional("category"))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share refused, or complied with."""
        if self.part == "benign":
            return (refusal_result("or_bench", self.about, recorded.attempts),)
        return (harm_result("or_bench", self.about, recorded.attempts, policy),)
