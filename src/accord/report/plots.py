"""The report's pictures as SVG data URIs, each drawn twice: for a wide and for a narrow screen.

Figures are made without pyplot, so two reports can be drawn in one process. Colours are those of Okabe and Ito, and
every condition has a marker of its own, so that no picture rests on colour alone.
"""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from accord.report.evidence import CurvePoint, TrainingStage
from accord.report.transcripts import printable
from accord.stats.calibration import CalibrationBin
from accord.types import Estimate

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e7eb"
BEFORE, AFTER = "#5b6670", "#0072b2"
OTHERS = (("#d55e00", "s"), ("#b07500", "^"), ("#009e73", "P"), ("#cc79a7", "X"), ("#56b4e9", "v"), ("#6a3d9a", "p"))
_APART = 0.15  # of a row, between its middle and each of its two ends
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b6bec6",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a name with a dollar sign is a name
    "svg.fonttype": "none",  # text stays text, so that the reader's own fonts and a screen's sharpness serve it
    "svg.hashsalt": "accord",  # the same evidence gives the same bytes
}
_FONTS = "system-ui, -apple-system, &apos;Segoe UI&apos;, Roboto, &apos;Helvetica Neue&apos;, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture for wide and for narrow screens, as data URIs, and the same in words."""

    wide: str
    narrow: str
    alt: str


@dataclass(frozen=True, slots=True)
class Spot:
    """One condition in the trade-off picture."""

    name: str
    contrast_refused: Estimate
    harmful_refused: Estimate


@dataclass(frozen=True, slots=True)
class Span:
    """One hazard in the dumbbell picture: harmful compliance before and after."""

    name: str
    before: Estimate
    after: Estimate


def trade_off(
    spots: Sequence[Spot], aligned: str, curve: Sequence[CurvePoint] = (), chosen_scale: float | None = None
) -> Picture | None:
    """Return harmful requests refused (up is safer) against contrast prompts refused (left is more helpful).

    The first spot is the base model. Each has an interval cross; the curve joins the strengths that were tried. None
    where no condition has both numbers.
    """
    drawn = [
        spot for spot in spots if spot.contrast_refused.value is not None and spot.harmful_refused.value is not None
    ]
    points = [p for p in curve if p.refused_contrast.value is not None and p.refused_harmful.value is not None]
    if not drawn:
        return None
    names = [spot.name for spot in spots]
    styles = _styles(names, aligned)
    # Contrast refusals are few: the whole of 0 to 1 would press all crosses against the left edge.
    reach = [e.value if e.high is None else e.high for e in (s.contrast_refused for s in drawn)]
    reach += [p.refused_contrast.value for p in points]
    right = min(1.03, max(0.3, 1.08 * max(x for x in reach if x is not None)))

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 4.9) if narrow else (7.4, 4.5), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(-0.02 * right, right), ylim=(-0.03, 1.03))
        axes.set(xlabel="Contrast prompts refused (less is better)", ylabel="Harmful requests refused (more is better)")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid()
        if points:
            _curve(axes, points, chosen_scale)
        for spot in drawn:
            _cross(axes, spot, *styles[spot.name])
        draw_legend(figure, axes, "lower center" if narrow else "right upper")
        return figure

    alt = "Trade-off. " + " ".join(
        f"{spot.name}: {spot.harmful_refused.value:.1%} of harmful requests and {spot.contrast_refused.value:.1%} of "
        "contrast prompts refused."
        for spot in drawn
    )
    return draw_picture(draw, alt)


def _cross(axes: Any, spot: Spot, colour: str, marker: str) -> None:
    x, y = spot.contrast_refused, spot.harmful_refused
    axes.errorbar(
        x.value, y.value, xerr=bars(x), yerr=bars(y), fmt=marker, color=colour, markersize=7.5, elinewidth=1.2,
        markeredgecolor="white", markeredgewidth=0.8, label=textwrap.fill(label_of(spot.name), 36), zorder=4,
    )  # fmt: skip


def _curve(axes: Any, points: Sequence[CurvePoint], chosen_scale: float | None) -> None:
    """Draw the line of strengths tried, each with its number, and a ring where the chosen one lies on it."""
    ordered = sorted(points, key=lambda point: point.scale)
    scales = [p.scale for p in ordered]
    xs, ys = [p.refused_contrast.value for p in ordered], [p.refused_harmful.value for p in ordered]
    axes.plot(xs, ys, "-o", color="#9aa5b1", markersize=3.5, linewidth=1.2, zorder=2, label="strengths tried")
    for scale, x, y in zip(scales, xs, ys, strict=True):
        if scale != chosen_scale:
            _strength(axes, scale, x, y, MUTED, "normal")
    if chosen_scale is not None and scales and scales[0] <= chosen_scale <= scales[-1]:
        x, y = (float(np.interp(chosen_scale, scales, np.asarray(values, dtype=float))) for values in (xs, ys))
        axes.plot([x], [y], "o", markersize=15, markerfacecolor="none", markeredgecolor=INK, zorder=5, label="chosen")
        _strength(axes, chosen_scale, x, y, INK, "bold")


def _strength(axes: Any, scale: float, x: Any, y: Any, colour: str, weight: str) -> None:
    axes.annotate(
        f"×{scale:g}", (x, y), xytext=(10, 6), textcoords="offset points", fontsize=7.5, va="center",
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.6}, color=colour, weight=weight, zorder=6,
    )  # fmt: skip


def dumbbells(spans: Sequence[Span]) -> Picture | None:
    """Return harmful compliance of each hazard before and after, with intervals; None where nothing was measured."""
    if all(span.before.value is None and span.after.value is None for span in spans):
        return None

    def draw(narrow: bool) -> Figure:
        height = (0.46 if narrow else 0.36) * len(spans) + 1.1
        figure = Figure(figsize=(3.7 if narrow else 7.4, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(-0.02, 1.02), ylim=(len(spans) - 0.4, -0.6), xlabel="Harmful requests complied with")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        names = ["" if narrow else label_of(span.name) for span in spans]
        axes.set_yticks(range(len(spans)), names)
        for row, span in enumerate(spans):
            _dumbbell(axes, row, span, labelled=row == _first_full(spans))
            if narrow:  # names stand above their row: beside it they would leave no room for the picture
                axes.text(-0.02, row - 0.36, label_of(span.name), fontsize=8.5, va="center")
        draw_legend(figure, axes, "upper center", columns=2)
        return figure

    alt = "Harmful compliance by hazard. " + " ".join(
        f"{span.name}: {_said(span.before)} before, {_said(span.after)} after." for span in spans
    )
    return draw_picture(draw, alt)


def _first_full(spans: Sequence[Span]) -> int:
    """Return the row that carries the legend: the first with both ends, else the first of all."""
    both = (i for i, s in enumerate(spans) if s.before.value is not None and s.after.value is not None)
    return next(both, 0)


def _dumbbell(axes: Any, row: int, span: Span, labelled: bool) -> None:
    if span.before.value is not None and span.after.value is not None:
        ends = [span.before.value, span.after.value]
        axes.plot(ends, [row - _APART, row + _APART], color="#b6bec6", linewidth=1.3, zorder=1)
    if span.before.value is None and span.after.value is None:
        axes.text(0.01, row, "not measured", fontsize=8, color=MUTED, style="italic", va="center")
    # The two intervals lie a little above and below the row: on one line they would hide each other.
    for estimate, offset, colour, marker, name in (
        (span.before, -_APART, BEFORE, "o", "before"),
        (span.after, _APART, AFTER, "D", "after"),
    ):
        if estimate.value is None:
            continue
        if estimate.low is not None and estimate.high is not None:
            axes.plot([estimate.low, estimate.high], [row + offset] * 2, color=colour, linewidth=1.1, alpha=0.65)
        face = "white" if name == "before" else colour
        axes.plot(
            [estimate.value], [row + offset], marker, markersize=5.5, markerfacecolor=face, markeredgecolor=colour,
            markeredgewidth=1.4, linestyle="none", zorder=3, label=name if labelled else None,
        )  # fmt: skip


def shares(rows: Sequence[tuple[str, Estimate]], label: str) -> Picture | None:
    """Return one share a row with its interval; None where nothing was measured."""
    if all(estimate.value is None for _, estimate in rows):
        return None

    def draw(narrow: bool) -> Figure:
        height = (0.42 if narrow else 0.27) * len(rows) + 0.9
        figure = Figure(figsize=(3.7 if narrow else 7.4, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.7), xlabel=label)
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="x")
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_yticks(range(len(rows)), ["" if narrow else label_of(name) for name, _ in rows])
        for place, (name, e) in enumerate(rows):
            if narrow:
                axes.text(-0.02, place - 0.4, label_of(name), fontsize=8, va="center")
            if e.value is None:
                axes.text(0.01, place, "not measured", fontsize=8, color=MUTED, style="italic", va="center")
                continue
            axes.errorbar(e.value, place, xerr=bars(e), fmt="o", color=AFTER, markersize=5, elinewidth=1.2)
        return figure

    return draw_picture(draw, f"{label}. " + " ".join(f"{name}: {_said(e)}." for name, e in rows))


def reliability(bins: Sequence[CalibrationBin]) -> Picture | None:
    """Return what came true against what was predicted, with intervals and how many; None where nothing was predicted."""
    drawn = [
        (b.predicted, b.observed.value, b.observed)
        for b in bins
        if b.predicted is not None and b.observed.value is not None
    ]
    if not drawn:
        return None

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 3.9) if narrow else (7.4, 4.6), layout="constrained")
        axes = figure.add_subplot()
        axes.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.06), xlabel="Probability that the scorer gives", ylabel="People say yes"
        )
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid()
        axes.plot([0, 1], [0, 1], "--", color="#9aa5b1", linewidth=1.1, zorder=1)
        for x, y, observed in drawn:
            axes.errorbar(
                x, y, yerr=bars(observed), fmt="o", color=AFTER, markersize=6, elinewidth=1.2,
                markeredgecolor="white", zorder=3,
            )  # fmt: skip
            axes.annotate(
                f"{observed.n}", (x, y), xytext=(6, 5), textcoords="offset points",
                fontsize=7.5, color=MUTED,
            )  # fmt: skip
        return figure

    return draw_picture(draw, "Reliability. " + " ".join(
        f"Predicted {x:.2f}: {_said(observed)} of {observed.n}." for x, _, observed in drawn))  # fmt: skip


def losses(stages: Sequence[TrainingStage]) -> Picture | None:
    """Return one small loss curve a stage, each on its own scale; None where no stage has any."""
    drawn = [stage for stage in stages if stage.losses]
    if not drawn:
        return None

    def draw(narrow: bool) -> Figure:
        columns = 1 if narrow else min(3, len(drawn))
        rows = -(-len(drawn) // columns)
        size = (3.7, 2.2 * rows) if narrow else (7.4, 2.4 * rows)
        figure = Figure(figsize=size, layout="constrained")
        for place, stage in enumerate(drawn, start=1):
            axes = figure.add_subplot(rows, columns, place)
            steps, values = zip(*stage.losses, strict=True)
            axes.plot(steps, values, color=AFTER, linewidth=1.4, marker="o" if len(steps) < 4 else "", markersize=4)
            axes.set_title(label_of(stage.name), loc="left")
            axes.set(xlabel="step", ylabel="loss")
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(5))
        return figure

    alt = "Training loss. " + " ".join(
        f"{stage.name}: {stage.losses[0][1]:.3g} at step {stage.losses[0][0]}, {stage.losses[-1][1]:.3g} at step "
        f"{stage.losses[-1][0]}."
        for stage in drawn
    )
    return draw_picture(draw, alt)


def _styles(names: Sequence[str], aligned: str) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each condition; the base is a grey circle, the aligned model a blue diamond."""
    fixed = {names[0]: (BEFORE, "o"), aligned: (AFTER, "D")}
    rest = [name for name in names if name not in fixed]
    return fixed | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(rest)}


def draw_legend(figure: Figure, axes: Any, place: str, columns: int = 1) -> None:
    """Put the legend outside the axes."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc=f"outside {place}", frameon=False, fontsize=8.5, ncols=columns, handletextpad=0.5,
        borderaxespad=0.2,
    )  # fmt: skip


def bars(estimate: Estimate) -> list[list[float]] | None:
    """Return how far an interval reaches to either side, as matplotlib wants it; None where there is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    return [[max(0.0, estimate.value - estimate.low)], [max(0.0, estimate.high - estimate.value)]]


def label_of(name: str) -> str:
    """Return a name as a picture can show it."""
    # A control character would break the SVG; a legend leaves out what begins with an underscore.
    return f" {printable(name)}" if name.startswith("_") else printable(name)


def _said(estimate: Estimate) -> str:
    return "not measured" if estimate.value is None else f"{estimate.value:.1%}"


def draw_picture(draw: Callable[[bool], Figure], alt: str) -> Picture:
    """Draw a figure for a wide and, given True, for a narrow screen."""
    with matplotlib.rc_context(_STYLE):
        return Picture(_uri(draw(False)), _uri(draw(True)), alt)


def _uri(figure: Figure) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Names in a script that our measuring font lacks are still text in the file, and the reader's fonts show them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue().replace("'DejaVu Sans'", _FONTS)
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()
