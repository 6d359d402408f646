"""What choosing among more answers is worth: by the reward that chooses, and by one that only watches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from accord.report import plots
from accord.report.rendering import render_page, write_page
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class BestPoint:
    """The best of k: nats from the model at most, and by how much it is above one answer, in each reward's own units."""

    k: int
    kl: float
    reward: Estimate
    watcher: Estimate | None


@dataclass(frozen=True, slots=True)
class BestOf:
    """A curve of best-of-k; `deviation` is the standard deviation of single answers' rewards (None: there is none)."""

    model: str
    reward: str
    watcher: str
    points: tuple[BestPoint, ...]
    deviation: float | None
    watcher_deviation: float | None


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows."""

    of: BestOf
    verdict: str
    curve: plots.Picture | None


def write_best_of(of: BestOf, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        InputError: the folder cannot be written.
    """
    return write_page(render_page("best_of.html", View(of, told(of), curve(of))), path)


def told(of: BestOf) -> str:
    """Say in words whether the reward was still true at the largest choice."""
    last = of.points[-1]
    if not of.watcher:
        return (
            "Nothing watched: whether what was chosen is better by another measure than the reward's own is not known."
        )
    e = last.watcher
    if e is None or e.value is None:
        return f"What {of.watcher} gives the best of {last.k} is not measured."
    if e.low is None or e.high is None:
        said = f"gives the best of {last.k} {e.value:+.3f} over a single answer, without an interval (n = {e.n})"
    elif e.low > 0:
        said = f"rates the best of {last.k} higher too: the reward is still true there"
    elif e.high < 0:
        said = f"rates the best of {last.k} lower than a single answer: the reward is no longer true there"
    else:
        said = f"does not show whether the best of {last.k} is better than a single answer"
    peak = max((p for p in of.points if p.watcher is not None and p.watcher.value is not None), key=_watched)
    if peak.k != last.k:
        said += f"; it is highest at the best of {peak.k}"
    return f"The watcher, {of.watcher}, {said}."


def _watched(point: BestPoint) -> float:
    assert point.watcher is not None
    assert point.watcher.value is not None
    return point.watcher.value


def curve(of: BestOf) -> plots.Picture | None:
    """Return gains in standard deviations of single answers against nats; None where no reward varies."""
    lines = [
        (name, [(p, *_drawn(e, deviation)) for p, e in points if e is not None and e.value is not None], colour, marker)
        for name, deviation, points, colour, marker in (
            (of.reward, of.deviation, [(p, p.reward) for p in of.points], plots.AFTER, "o"),
            (of.watcher, of.watcher_deviation, [(p, p.watcher) for p in of.points], *plots.OTHERS[0]),
        )
        if name and deviation
    ]
    if not lines:
        return None

    def draw(narrow: bool) -> Figure:
        figure = Figure(figsize=(3.7, 3.9) if narrow else (7.4, 4.3), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="nats from the model, at most", ylabel="gain, in standard deviations")
        axes.grid()
        axes.axhline(0, color=plots.MUTED, linewidth=0.8)
        for name, points, colour, marker in lines:
            x, y = [p.kl for p, _, _ in points], [gain for _, gain, _ in points]
            axes.plot(x, y, f"-{marker}", color=colour, markersize=5, label=plots.label_of(name))
            for p, gain, reach in points:
                if reach is not None:
                    axes.errorbar(p.kl, gain, yerr=reach, fmt="none", color=colour, elinewidth=1.1)
        for p, gain, _ in lines[0][1]:
            axes.annotate(
                f"{p.k}", (p.kl, gain), xytext=(7, 5), textcoords="offset points", fontsize=8, color=plots.MUTED
            )
        plots.draw_legend(figure, axes, "lower center", 1 if narrow else 2)
        return figure

    alt = "Gain by the number of answers chosen from. " + " ".join(
        f"{name}: " + ", ".join(f"{gain:+.2f} at {p.k}" for p, gain, _ in points) + "." for name, points, _, _ in lines
    )
    return plots.draw_picture(draw, alt)


def _drawn(e: Estimate, deviation: float) -> tuple[float, list[list[float]] | None]:
    """Return a measured gain and how far its interval reaches, in deviations."""
    assert e.value is not None
    reach = plots.bars(e)
    return e.value / deviation, None if reach is None else [[side[0] / deviation] for side in reach]
