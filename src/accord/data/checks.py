"""Can a model learn from these comparisons? Counts and lines of those it cannot; reading that refuses or drops them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from accord.data.formats import comparison_of, parse_pair
from accord.data.jsonl import Row, read_rows, refuse
from accord.errors import DataError
from accord.types import Comparison

# What no model can learn from although it is well formed, by the code of `accord data check`: such rows may be left out.
_NO_LESSON = {
    "identical": "chosen and rejected are equal, so there is no preference to learn",
    "empty-answer": "an answer is empty (one text may be the start of the other)",
}


@dataclass(frozen=True, slots=True)
class Flaw:
    """One flaw: its code (see `accord.data.flaws`), the row's line (0: of the file as a whole), and what was seen."""

    code: str
    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """How many rows there are, how many are usable, and the flaw of each that is not."""

    rows: int
    usable: int
    faults: tuple[Flaw, ...]

    @property
    def identical(self) -> int:
        """Pairs whose answers are equal: their margin is 0 for ever."""
        return len(self.lines("identical"))

    @property
    def empty_completion(self) -> int:
        """Pairs in which one answer is empty."""
        return len(self.lines("empty-answer"))

    @property
    def malformed(self) -> int:
        """Rows that are no comparison."""
        return sum(flaw.code not in _NO_LESSON for flaw in self.faults)

    def lines(self, code: str) -> tuple[int, ...]:
        """Return the lines of the rows with this flaw."""
        return tuple(flaw.line for flaw in self.faults if flaw.code == code)

    def __str__(self) -> str:
        return (
            f"rows={self.rows}, usable={self.usable}, identical={self.identical}, "
            f"empty_completion={self.empty_completion}, malformed={self.malformed}"
        )


@dataclass(frozen=True, slots=True)
class ComparisonSet:
    """The usable comparisons of a file and the report on all its rows."""

    comparisons: tuple[Comparison, ...]
    report: Report


def check_comparisons(rows: Iterable[Row]) -> Report:
    """Return the report on rows of comparisons, in any format that `accord.data.formats` reads."""
    return numbered_comparisons(rows, "")[1]


def read_comparisons(path: str | Path, drop: bool = False) -> ComparisonSet:
    """Return the comparisons of a `.jsonl` or `.jsonl.gz` file in any known format, and the report on its rows.

    With `drop`, pairs that are identical or have an empty answer are left out and counted; malformed rows are refused
    always, since what they meant to say is unknown.

    Raises:
        DataError: file and line of every row that cannot be used, or that no row can.
    """
    path = Path(path)
    numbered, report = numbered_comparisons(read_rows(path), path.name)
    refused = [flaw for flaw in report.faults if flaw.code not in _NO_LESSON or not drop]
    if refused:
        hint = "" if report.malformed else "; correct the row, or drop such rows"
        refuse(path, [(flaw.line, f"{flaw.message}{hint}") for flaw in refused])
    if not numbered:
        raise DataError(f"{path}: no usable comparison is left ({report})")
    return ComparisonSet(tuple(comparison for _, comparison in numbered), report)


def numbered_comparisons(rows: Iterable[Row], origin: str) -> tuple[list[tuple[int, Comparison]], Report]:
    """Return the usable comparisons of some rows, each with its line, and the report on all rows."""
    comparisons: list[tuple[int, Comparison]] = []
    faults: list[Flaw] = []
    first: dict[str, int] = {}
    count = 0
    for row in rows:
        count += 1
        try:
            pair = parse_pair(row.data)
            comparison = comparison_of(row, pair, origin)
            if comparison.id in first:
                raise DataError(f"id '{comparison.id}' is used before, on line {first[comparison.id]}")
        except DataError as error:
            faults.append(Flaw(error.code, row.line, str(error)))
            continue
        first[comparison.id] = row.line
        if pair.fault is not None:
            faults.append(Flaw(pair.fault, row.line, _NO_LESSON[pair.fault]))
        else:
            comparisons.append((row.line, comparison))
    return comparisons, Report(count, len(comparisons), tuple(faults))
