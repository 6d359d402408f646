"""Outcomes that were measured elsewhere, by another program or by people, with the statistics of this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from accord.errors import DataError, SettingsError
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import Aggregate, ItemResult, SuiteResult, value_of_label
from accord.evals.suite import About, Given, Item, Recorded
from accord.policy.schema import Policy

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes measured elsewhere. Keys: id, family, group, and value, label (C, P, I, N) or error. `better` has no default."""

    source: str = ""
    better: Better | Literal[""] = ""
    metric: str = "score"
    aggregate: Aggregate = "micro"
    about: ClassVar[About] = About("the file given", "the file's own")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the outcomes; a value is from 0 to 1, and any other is rejected by name when it is measured."""
        del policy
        if self.better not in ("higher", "lower") or self.aggregate not in ("micro", "macro"):
            raise SettingsError(
                "outcomes: say --suite outcomes=FILE,better=higher (or lower), and aggregate=micro (or macro)"
            )
        return tuple(converted(source_rows(self.source, "outcomes"), _given))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return their mean."""
        del policy
        items = tuple(ItemResult(g.id, g.family, g.value, g.reason, g.group, g.error) for g in recorded.given)
        return (
            SuiteResult(
                "outcomes", self.metric, self.better == "higher", items, "outcomes with a value", self.about.source,
                self.about.licence, calibration="as the file's", aggregate=self.aggregate,
            ),
        )  # fmt: skip


def _given(row: SourceRow) -> Given:
    id = row.optional("id") or f"{row.stem}/{row.line}"
    family, group = row.optional("family") or id, row.optional("group")
    if error := row.optional("error"):
        return Given(id, family, None, f"error: {error}", group, error=True)
    if label := row.optional("label"):
        value = value_of_label(label)
        return Given(id, family, value, "" if value is not None else "no answer", group)
    number = row.value("value", "label", "error")
    if number is None:
        return Given(id, family, None, row.optional("reason") or "no value", group)
    try:
        return Given(id, family, float(number), "", group)
    except (TypeError, ValueError):
        raise DataError(f"'value' is {number!r:.60}; expected a number, or nothing and a 'reason'") from None
