"""Numbers with their intervals, one a row: differences about zero, or rates from 0 to 1, as pictures for a page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from accord.report.plots import AFTER, INK, MUTED, Picture, draw_legend, draw_picture, label_of
from accord.types import Estimate

Look = Literal["better", "worse", "unclear", "rate"]
WORSE = "#d55e00"
# Colour, marker, and whether the marker is filled: no row rests on colour alone.
_LOOKS = {
    "better": (AFTER, "D", True),
    "worse": (WORSE, "s", True),
    "unclear": (MUTED, "o", False),
    "rate": (AFTER, "o", True),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: a name, its number, and how it looks."""

    name: str
    estimate: Estimate
    look: Look = "rate"


def forest(bars: Sequence[Bar], label: str, alt: str, signed: bool) -> Picture | None:
    """Return numbers with intervals, in the order given; None where none was measured.

    `signed` numbers are differences in points about a line at zero; others are rates from 0 to 1.
    """
    if all(bar.estimate.value is None for bar in bars):
        return None
    ends = [abs(end) for b in bars for end in (b.estimate.value, b.estimate.low, b.estimate.high) if end is not None]
    reach = min(1.05, 1.12 * max(0.05, *ends)) if signed else 1.02

    def draw(narrow: bool) -> Figure:
        figure = Figure(
            figsize=(3.7 if narrow else 7.4, (0.5 if narrow else 0.38) * len(bars) + 1.1), layout="constrained"
        )
        axes = figure.add_subplot()
        axes.set(xlim=(-reach, reach) if signed else (-0.02, reach), ylim=(len(bars) - 0.4, -0.7), xlabel=label)
        points = FuncFormatter(lambda x, _: f"{100 * x:+.0f}".replace("-", "−").replace("+0", "0"))
        axes.xaxis.set_major_formatter(points if signed else PercentFormatter(1, decimals=0))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_yticks(range(len(bars)), ["" if narrow else textwrap.fill(label_of(b.name), 34) for b in bars])
        if signed:
            axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        drawn: set[str] = set()
        for row, bar in enumerate(bars):
            _row(axes, row, bar, bar.look not in drawn and signed, -reach if signed else -0.02, narrow)
            drawn.add(bar.look)
        if signed:
            draw_legend(figure, axes, "upper center", columns=3)
        return figure

    return draw_picture(draw, alt)


def _row(ax: Any, row: int, bar: Bar, labelled: bool, left: float, narrow: bool) -> None:
    colour, marker, filled = _LOOKS[bar.look]
    if narrow:  # names stand above their row: beside it they would leave no room for the picture
        ax.text(left, row - 0.38, label_of(bar.name), fontsize=8.5, va="center")
    e = bar.estimate
    if e.value is None:
        ax.text(0.01, row, "not measured", fontsize=8, color=MUTED, style="italic", va="center")
        return
    if e.low is not None and e.high is not None:
        ax.plot([e.low, e.high], [row, row], color=colour, linewidth=1.4, alpha=0.75, zorder=2)
    ax.plot(
        [e.value], [row], marker, markersize=6, markerfacecolor=colour if filled else "white", markeredgecolor=colour,
        markeredgewidth=1.4, linestyle="none", zorder=3, label=bar.look if labelled else None,
    )  # fmt: skip
