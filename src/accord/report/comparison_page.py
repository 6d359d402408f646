"""The page of a comparison of two runs: all that it shows, computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.evals.comparison import MetricComparison, RunComparison, changed_items
from accord.evals.results import Evaluation
from accord.evals.summary import NOT_AN_ANSWER_LIMIT, unscored_share
from accord.report import compared, describe
from accord.report.forest import Bar, forest
from accord.report.plots import Picture
from accord.report.rendering import render_page, write_page

SHOWN_ITEMS = 200


@dataclass(frozen=True, slots=True)
class Changed:
    """The items of one measure whose value rose or fell; the first of them, and how many there are."""

    metric: MetricComparison
    rose: tuple[str, ...]
    fell: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """All that the template shows, computed."""

    found: RunComparison
    runs: tuple[Evaluation, ...]
    warnings: tuple[str, ...]
    headline: str
    multiplicity: str
    picture: Picture | None
    changed: tuple[Changed, ...]
    methods: tuple[str, ...]


def write_comparison(found: RunComparison, runs: Sequence[Evaluation], path: Path) -> Path:
    """Write the page of a comparison and return its path; `runs` are the two that were compared.

    Raises:
        InputError: if the file cannot be written.
    """
    return write_page(render_comparison(found, runs), path)


def render_comparison(found: RunComparison, runs: Sequence[Evaluation]) -> str:
    """Return the page as HTML."""
    return render_page("comparison.html", comparison_view(found, runs))


def comparison_view(found: RunComparison, runs: Sequence[Evaluation]) -> ComparisonView:
    """Compute everything that the page shows."""
    drawn = [c for c in found.metrics if compared.is_share(c)]
    bars = [Bar(compared.title(c), c.difference, "unclear" if c.change == "not measured" else c.change) for c in drawn]
    alt = "Differences. " + " ".join(
        f"{compared.title(c)}: {compared.difference(c)} ({compared.difference_interval(c) or 'no interval'}), {c.change}."
        for c in drawn
    )
    return ComparisonView(
        found=found,
        runs=tuple(runs),
        warnings=tuple(line for c in found.metrics for line in _warnings(c)),
        headline=compared.headline(found),
        multiplicity=compared.multiplicity(found),
        picture=forest(bars, "B − A (percentage points)", alt, signed=True) if bars else None,
        changed=tuple(
            Changed(c, rose[:SHOWN_ITEMS], fell[:SHOWN_ITEMS])
            for c in found.metrics
            if c.rose or c.fell
            for rose, fell in [changed_items(c, *runs)]
        ),
        methods=compared.methods(found),
    )


def _warnings(c: MetricComparison) -> list[str]:
    """Return what must be read before a measure's numbers: how much of either run has no verdict."""
    lines = []
    for side, e in (("A", c.before), ("B", c.after)):
        share = unscored_share(e)
        if share is not None and share > NOT_AN_ANSWER_LIMIT:
            reasons = ", ".join(f"{n:,} {reason}" for reason, n in e.unscored.items())
            lines.append(
                f"{compared.title(c)}: {describe.percent(share)} of {e.n + e.n_unscored:,} items of {side} could not be scored "
                f"({reasons}). The comparison speaks only for the rest."
            )
    return lines
