"""The models between two: what each reward gives them, drawn as one curve to pick a point from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from accord.report import plots
from accord.report.rendering import render_page, write_page
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class SoupPoint:
    """A model between two: the second's share, and the mean of either reward."""

    share: float
    first: Estimate
    second: Estimate


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows."""

    models: tuple[str, str]
    rewards: tuple[str, str]
    points: tuple[SoupPoint, ...]
    curve: plots.Picture | None


def write_soup(models: Sequence[str], rewards: Sequence[str], points: Sequence[SoupPoint], path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        InputError: the folder cannot be written.
    """
    view = View((models[0], models[1]), (rewards[0], rewards[1]), tuple(points), trade_off(rewards, points))
    return write_page(render_page("soup.html", view), path)


def trade_off(rewards: Sequence[str], points: Sequence[SoupPoint]) -> plots.Picture | None:
    """Return one reward against the other, a point a share, with intervals; None where nothing was measured."""
    drawn = [
        (p, p.first.value, p.second.value) for p in points if p.first.value is not None and p.second.value is not None
    ]
    if not drawn:
        return None

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 3.9) if narrow else (7.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel=plots.label_of(rewards[0]), ylabel=plots.label_of(rewards[1]))
        axes.grid()
        axes.plot([x for _, x, _ in drawn], [y for _, _, y in drawn], "-", color="#9aa5b1", linewidth=1.2, zorder=2)
        for p, x, y in drawn:
            axes.errorbar(
                x, y, xerr=plots.bars(p.first), yerr=plots.bars(p.second), fmt="o", color=plots.AFTER, markersize=6,
                elinewidth=1.1, markeredgecolor="white", zorder=3,
            )  # fmt: skip
            axes.annotate(
                f"{p.share:.0%}", (x, y), xytext=(7, 6), textcoords="offset points", fontsize=8, color=plots.MUTED
            )
        return figure

    alt = "Trade-off. " + " ".join(f"{p.share:.0%} of the second: {x:.3f} and {y:.3f}." for p, x, y in drawn)
    return plots.draw_picture(draw, alt)
