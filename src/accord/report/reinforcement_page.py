"""A run of reinforcement learning as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from accord.report import plots
from accord.report.reinforcement import Reinforcement, Watched, headline, length_against_reward, warnings, watched
from accord.report.rendering import render_page, write_page
from accord.train.samples import Sample
from accord.types import Estimate

# Prompts whose answers are shown, those of the run's end.
SHOWN = 8
# Steps whose mean a smoothed line shows.
SMOOTHED = 5


@dataclass(frozen=True, slots=True)
class Shown:
    """One prompt's best and worst answer at the run's end."""

    prompt: str
    best: Sample
    worst: Sample


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows, computed."""

    run: Reinforcement
    headline: str
    warnings: tuple[str, ...]
    watched: tuple[Watched, ...]
    length: Estimate
    by_step: plots.Picture | None
    by_divergence: plots.Picture | None
    answers: plots.Picture | None
    shown: tuple[Shown, ...]
    rates: tuple[tuple[str, Estimate, Estimate], ...]


def write_reinforcement(run: Reinforcement, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        InputError: the folder cannot be written.
    """
    return write_page(render_page("reinforcement.html", view(run)), path)


def view(run: Reinforcement) -> View:
    """Compute everything that the page shows."""
    scores = {name: f"score/{name}" for name in (*run.rewards, run.watcher, run.cost) if name}
    return View(
        run=run,
        headline=headline(run),
        warnings=warnings(run),
        watched=watched(run),
        length=length_against_reward(run.last),
        by_step=_lines(run, scores, "step", lambda k, _: float(k)),
        by_divergence=_lines(run, scores, "divergence from the reference, nats an answer", lambda _, m: m.get("rl/kl")),
        answers=_lines(run, {"tokens": "tokens", "divergence (nats)": "rl/kl"}, "step", lambda k, _: float(k)),
        shown=_shown(run),
        rates=_rates(run),
    )


def _shown(run: Reinforcement) -> tuple[Shown, ...]:
    groups: dict[str, list[Sample]] = {}
    for s in run.last:
        if s.reward is not None:
            groups.setdefault(s.prompt, []).append(s)
    return tuple(
        Shown(run.prompts.get(id, id), max(own, key=_reward), min(own, key=_reward))
        for id, own in list(groups.items())[:SHOWN]
    )


def _reward(sample: Sample) -> float:
    return sample.reward or 0.0


def _rates(run: Reinforcement) -> tuple[tuple[str, Estimate, Estimate], ...]:
    if run.truth is None:
        return ()
    before, after = (run.truth.rates[when] for when in ("before", "after"))
    names = {
        "harmful_compliance": "Harmful prompts complied with",
        "contrast_refusal": "Contrast prompts refused",
        "ordinary_refusal": "Ordinary prompts refused",
        "capability": "Capability",
    }
    return tuple((label, getattr(before, name), getattr(after, name)) for name, label in names.items())


def _lines(
    run: Reinforcement,
    series: Mapping[str, str],
    label: str,
    x_of: Callable[[int, Mapping[str, float]], float | None],
) -> plots.Picture | None:
    """Return one small picture a series, each on its own scale, points and a smoothed line; None where there is nothing."""
    drawn: list[tuple[str, list[float], list[float]]] = []
    for name, metric in series.items():
        points = [
            (x, log.metrics[metric])
            for k, log in enumerate(run.steps, 1)
            if metric in log.metrics and (x := x_of(k, log.metrics)) is not None
        ]
        if len(points) >= 2:
            points.sort()
            drawn.append((name, [x for x, _ in points], [y for _, y in points]))
    if not drawn:
        return None

    def draw(narrow: bool) -> Figure:
        columns = 1 if narrow else min(3, len(drawn))
        rows = -(-len(drawn) // columns)
        figure = Figure(figsize=(3.7, 2.4 * rows) if narrow else (7.4, 2.6 * rows), layout="constrained")
        for place, (name, xs, ys) in enumerate(drawn, start=1):
            axes = figure.add_subplot(rows, columns, place)
            axes.plot(xs, ys, "o", color="#9aa5b1", markersize=2.5, alpha=0.7)
            axes.plot(*_smooth(xs, ys), color=plots.AFTER, linewidth=1.6)
            axes.set_title(plots.label_of(_short(name)), loc="left")
            axes.set_xlabel(label)
            axes.grid(axis="y")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
        return figure

    alt = " ".join(f"{name}: {ys[0]:.3g} first, {ys[-1]:.3g} last, against {label}." for name, xs, ys in drawn)
    return plots.draw_picture(draw, alt)


def _smooth(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return means over `SMOOTHED` neighbours."""
    n = min(SMOOTHED, len(xs))
    spans = [slice(i, i + n) for i in range(len(xs) - n + 1)]
    return [sum(xs[s]) / n for s in spans], [sum(ys[s]) / n for s in spans]


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"…{name[-33:]}"
