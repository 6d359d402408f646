"""HarmBench: behaviours a model must not show, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.errors import DataError
from accord.evals.answers import harm_result, requests
from accord.evals.reading import SourceRow, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Harmbench:
    """HarmBench's textual behaviours, standard and contextual: share complied with. Columns: Behavior, ContextString and more.

    Left out: copyright behaviours, which are judged by what is reproduced, and those with an image.
    """

    source: str = ""
    about: ClassVar[About] = About("HarmBench (Mazeika et al. 2024, arXiv 2402.04249)", "MIT", 128)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the behaviours as requests, a context in front where they have one; the semantic category is the group."""
        del policy
        rows = [_asked(row) for row in source_rows(self.source, "harmbench") if _textual(row)]
        if not rows:
            raise DataError(f"{self.source}: no textual behaviour")
        return requests(rows, "harmbench", ("request",), "harmful", lambda row: row.optional("SemanticCategory"))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the share complied with."""
        return (harm_result("harmbench", self.about, recorded.attempts, policy),)


def _textual(row: SourceRow) -> bool:
    return row.optional("FunctionalCategory") != "copyright" and not row.optional("ImageFileName")


def _asked(row: SourceRow) -> SourceRow:
    behavior, context = row.optional("Behavior", "prompt", "behavior"), row.optional("ContextString", "context")
    request = f"{context}\n\n---\n\n{behavior}" if context and behavior else behavior
    return SourceRow(row.file, row.line, {**row.data, "request": request}, row.stem)
