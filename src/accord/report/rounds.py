"""The rounds after the first, for the page: what each found, learned and showed, and the curve over all of them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from accord.evals.proof import MARGIN, GroupProof
from accord.report import plots
from accord.report.describe import percent
from accord.report.evidence import RoundEvidence
from accord.types import Estimate

# What the curve shows, in this order; the table has every group.
CURVES = {
    "fresh, attacked": "fresh families, attacked",
    "transfer, attacked": "trained families, other attacks",
    "regression, attacked": "trained items again",
    "fresh contrast, attacked": "benign, in the form of an attack: refused",
    "fresh, no attack: contrast": "contrast prompts refused",
}
FRESH = "fresh, attacked"


def proved(proofs: Sequence[GroupProof]) -> str:
    """Return in a sentence what a round did to attacks on families that no training saw, beyond its control."""
    fresh = next((p for p in proofs if p.group == FRESH), None)
    if fresh is None or fresh.beyond.value is None:
        return "What attacks reach on fresh families was not measured."
    own, without = fresh.before_to_after, fresh.before_to_control
    said = (
        f"On fresh families attacks succeeded in {percent(own.before)} before, {percent(own.after)} after training on findings and "
        f"{percent(without.after)} after as much training without them (n={own.n})."
    )
    beyond = fresh.beyond
    if beyond.low is not None and beyond.low > 0:
        return f"{said} It fell by at least a third more than in the control."
    if beyond.high is not None and beyond.high < 0:
        return f"{said} It did not fall by a third more than in the control."
    return f"{said} Whether it fell by a third more than in the control is not shown: {_interval(beyond)}."


def curve(rounds: Sequence[RoundEvidence]) -> plots.Picture | None:
    """Return how often each group was hit, round by round; a hollow mark is the control. None where there is no later round."""
    lines = {group: _line(rounds, group) for group in CURVES}
    lines = {group: line for group, line in lines.items() if line}
    if not lines:
        return None

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 4.6) if narrow else (7.4, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for (group, line), (colour, marker) in zip(lines.items(), ((plots.AFTER, "D"), *plots.OTHERS), strict=False):
            places, values, controls = zip(*line, strict=True)
            axes.plot(places, values, marker=marker, color=colour, linewidth=1.5, markersize=6, label=CURVES[group])
            axes.plot(
                places,
                controls,
                marker,
                markerfacecolor="white",
                markeredgecolor=colour,
                linestyle="none",
                markersize=6,
            )
        numbers = sorted({place for line in lines.values() for place, _, _ in line})
        axes.set(xlabel="after round (hollow: the control)", ylabel="share", ylim=(-0.03, 1.03))
        axes.set_xticks(numbers)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y")
        plots.draw_legend(figure, axes, "lower center", 1 if narrow else 2)
        return figure

    alt = "Over the rounds. " + " ".join(
        f"{CURVES[group]}: " + ", ".join(f"{percent(value)} after round {place}" for place, value, _ in line) + "."
        for group, line in lines.items()
    )
    return plots.draw_picture(draw, alt)


def _line(rounds: Sequence[RoundEvidence], group: str) -> list[tuple[int, float, float | None]]:
    """Return (round, rate, the control's rate): the first point is the model that the first later round began with."""
    points: list[tuple[int, float, float | None]] = []
    for round_ in rounds:
        proof = next((p for p in round_.proofs if p.group == group), None)
        if proof is None or proof.before_to_after.before is None or proof.before_to_after.after is None:
            continue
        if not points:
            points.append((round_.number - 1, proof.before_to_after.before, None))
        points.append((round_.number, proof.before_to_after.after, proof.before_to_control.after))
    return points


def _interval(estimate: Estimate) -> str:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "no interval"
    return (
        f"the fall less {1 + MARGIN:.2f} times the control's is {100 * estimate.value:+.1f} points "
        f"[{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"
    )
