"""Tables for the terminal. Words and numbers are those of the pages."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from accord.evals.comparison import RunComparison
from accord.evals.gates import GateResult
from accord.report import compared, describe

# Where the output is no terminal nobody will widen it; a table must not break its numbers.
_WIDTH = 132
_COLOURS = {"better": "green", "worse": "red", "met": "green", "missed": "red", "not shown": "yellow"}


def print_comparison(found: RunComparison) -> None:
    """Print a comparison: what it amounts to, a row a measure, and what a reader must know beside it."""
    table = _table("measure", "A", "B", "B − A", "p (Holm)", "pairs", "shown")
    for c in found.metrics:
        sides = [
            f"{compared.value(c, e)}\n{compared.value_interval(c, e)}\n{describe.counts(e)}"
            + (f"\ncorrected {describe.corrected(also)}" if also else "")
            for e, also in zip((c.before, c.after), c.corrected, strict=True)
        ]
        table.add_row(
            f"{compared.title(c)}\n{'higher' if c.higher_is_better else 'lower'} is better",
            *sides,
            f"{compared.difference(c)}\n{compared.difference_interval(c)}",
            f"{describe.p_value(c.p_adjusted)}\nraw {describe.p_value(c.p_value)}",
            f"{c.difference.n:,} in {c.n_families:,} families\n{c.rose} rose, {c.fell} fell\nno pair: {compared.no_pairs(c)}",
            f"[{_COLOURS.get(c.change, 'dim')}]{c.change}[/]",
        )
    console = _console()
    console.print(f"A  {found.before}\nB  {found.after}\n[bold]{compared.headline(found)}[/]", highlight=False)
    console.print(table)
    console.print(compared.multiplicity(found), highlight=False)
    for c in found.metrics:
        if c.n_needed is not None:
            console.print(f"{compared.title(c)}: needed {compared.needed(c)}", highlight=False)
    lines = [*found.notes, *(f"{c.name}: {note}" for c in found.metrics for note in c.notes)]
    for side, names in (("A", found.measured_before_only), ("B", found.measured_after_only)):
        if names:
            lines.append(f"Measured in {side} only, so not compared: {', '.join(names)}.")
    for line in lines:
        console.print(line, highlight=False, markup=False)


def print_gates(results: Sequence[GateResult]) -> None:
    """Print how each gate fares, with what was measured for it."""
    table = _table("gate", "status", "measured", "why")
    for r in results:
        change = r.gate.measure.endswith("_change")
        number, spread = (
            (f"{describe.points(r.estimate.value)} points", describe.points_interval(r.estimate))
            if change and r.estimate.value is not None
            else (describe.percent(r.estimate.value), describe.interval(r.estimate))
        )
        measured = "\n".join(part for part in (number, spread, describe.counts(r.estimate)) if part)
        status = f"[{_COLOURS.get(r.status.value, 'dim')}]{r.status.value}[/]"
        table.add_row(describe.gate_words(r.gate), status, measured, r.reason)
    _console().print(table)


def _table(*columns: str) -> Table:
    table = Table(show_lines=True, header_style="bold")
    for name in columns:
        table.add_column(name)
    return table


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else _WIDTH)
