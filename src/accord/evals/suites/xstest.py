"""XSTest: safe prompts that look unsafe, and unsafe contrasts of the same form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.answers import harm_result, refusal_result, requests
from accord.evals.reading import SourceRow, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy
from accord.types import Kind


@dataclass(frozen=True, slots=True)
class Xstest:
    """XSTest: share of safe prompts refused, and of their unsafe contrasts complied with. Columns: prompt, type, label, focus."""

    source: str = ""
    about: ClassVar[About] = About("XSTest (Röttger et al. 2023, arXiv 2308.01263)", "CC BY 4.0", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the prompts; the type is the group, type and focus word make the family."""
        del policy
        rows = source_rows(self.source, "xstest")
        return requests(rows, "xstest", ("prompt",), _kind, lambda row: row.optional("type"), _family)

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return refusal of the safe prompts and compliance with the unsafe ones."""
        return (
            refusal_result("xstest", self.about, recorded.attempts),
            harm_result("xstest", self.about, recorded.attempts, policy),
        )


def _kind(row: SourceRow) -> Kind:
    # The first release has no label: there the type's name tells.
    label = row.optional("label") or ("unsafe" if row.optional("type").startswith("contrast") else "safe")
    return "contrast" if label == "safe" else "harmful"


def _family(row: SourceRow) -> str:
    kind, focus = row.optional("type").removeprefix("contrast_"), row.optional("focus")
    return f"xstest/{kind}/{focus}" if focus else ""
