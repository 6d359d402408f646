"""Rounds of Llama 2's recipe on one page: what each made of harm, of help, and of the rewards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from accord.evals.summary import Rates
from accord.report import plots
from accord.report.describe import percent
from accord.report.rendering import render_page, write_page
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class Aim:
    """One aim's reward on its held-out prompts after a round, and the mean of each prompt's difference from before the first."""

    reward: Estimate
    difference: Estimate


@dataclass(frozen=True, slots=True)
class LlamaRound:
    """What was measured after a round; 0 is before the first."""

    number: int
    model: str
    rates: Rates
    safety: Aim
    helpfulness: Aim


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows."""

    rounds: tuple[LlamaRound, ...]
    headline: str
    curve: plots.Picture | None


def write_llama2(rounds: Sequence[LlamaRound], path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        InputError: the folder cannot be written.
    """
    return write_page(render_page("llama2.html", View(tuple(rounds), headline(rounds), curve(rounds))), path)


def headline(rounds: Sequence[LlamaRound]) -> str:
    """Return in a sentence what became of harm and of help."""
    first, last = rounds[0], rounds[-1]
    was, now = first.rates.harmful_compliance, last.rates.harmful_compliance
    if was.value is None or now.value is None:
        return "Harmful compliance was not measured."
    told = f"Harmful compliance on families that no round trained on: {percent(was.value)} before, {percent(now.value)} after"
    lost = last.helpfulness.difference
    if lost.low is None or lost.high is None:
        return f"{told}; whether helpfulness fell is not measured."
    if lost.high < 0:
        return f"{told}; the helpfulness reward fell."
    return f"{told}; {'the helpfulness reward rose.' if lost.low > 0 else 'the helpfulness reward is not shown to have changed.'}"


def curve(rounds: Sequence[LlamaRound]) -> plots.Picture | None:
    """Return rates by round, with intervals; None where nothing was measured."""
    series = {
        "harmful compliance": [r.rates.harmful_compliance for r in rounds],
        "contrast refused": [r.rates.contrast_refusal for r in rounds],
        "capability": [r.rates.capability for r in rounds],
    }
    drawn = {name: [(k, e.value, e) for k, e in enumerate(own) if e.value is not None] for name, own in series.items()}
    if not any(drawn.values()):
        return None
    colours = [(plots.AFTER, "D"), *plots.OTHERS]

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 4.2) if narrow else (7.4, 3.9), layout="constrained")
        axes = figure.add_subplot()
        axes.set(ylim=(-0.03, 1.03), xlabel="after round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y")
        for (name, points), (colour, marker) in zip(drawn.items(), colours, strict=False):
            for k, value, e in points:
                axes.errorbar(
                    k, value, yerr=plots.bars(e), fmt=marker, color=colour, markersize=6, elinewidth=1.1,
                    label=name if k == points[0][0] else None,
                )  # fmt: skip
            axes.plot([k for k, _, _ in points], [v for _, v, _ in points], color=colour, linewidth=1.0, alpha=0.6)
        plots.draw_legend(figure, axes, "lower center" if narrow else "right upper")
        return figure

    alt = "By round. " + " ".join(
        f"{name}: " + ", ".join(f"{percent(value)} after round {k}" for k, value, _ in points) + "."
        for name, points in drawn.items()
    )
    return plots.draw_picture(draw, alt)
