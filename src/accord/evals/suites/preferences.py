"""How often a reward or cost model prefers the better of two answers, from scores that it gave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from accord.errors import DataError, SettingsError
from accord.evals.likelihood import choice_result
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import ItemResult, SuiteResult
from accord.evals.suite import About, Given, Item, Recorded
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Preferences:
    """Accuracy of a reward or cost model's scores of pairs. Keys: better, worse (numbers), id, family.

    `direction` must be said: `reward`, higher is better, or `cost`, lower is better. A tie counts one half.
    """

    source: str = ""
    direction: Literal["", "reward", "cost"] = ""
    about: ClassVar[About] = About("the file given", "the file's own")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return 1 for a pair in the right order, 0 for one in the wrong, 0.5 for a tie."""
        del policy
        if self.direction not in ("reward", "cost"):
            raise SettingsError(
                "preferences: say whether high is good: --suite preferences=FILE,direction=reward (high is better) or =cost"
            )
        sign = 1 if self.direction == "reward" else -1
        return tuple(converted(source_rows(self.source, "preferences"), lambda row: _given(row, sign)))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return the accuracy, ties in the note."""
        del policy
        items = tuple(ItemResult(g.id, g.family, g.value, g.reason) for g in recorded.given)
        ties = sum(item.value == 0.5 for item in items)
        note = f"direction {self.direction}; {ties} ties, each counted one half"
        return (choice_result("preferences", "preference_accuracy", items, self.about, "pairs", note=note),)


def _given(row: SourceRow, sign: int) -> Given:
    id = row.optional("id") or f"{row.stem}/{row.line}"
    try:
        better, worse = (float(row.value(key)) for key in ("better", "worse"))
    except (TypeError, ValueError):
        raise DataError("'better' and 'worse' must be numbers") from None
    if not math.isfinite(better) or not math.isfinite(worse):
        return Given(id, row.optional("family") or id, None, "a score is no finite number")
    margin = sign * (better - worse)
    return Given(id, row.optional("family") or id, 0.5 if margin == 0 else float(margin > 0))
