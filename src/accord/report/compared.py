"""A comparison of two runs in words: what a terminal and a page say of it.

A measure is called better or worse only where the paired interval excludes no change and the test, corrected for how many
comparisons are made, agrees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from accord.evals.comparison import SIGNIFICANT, MetricComparison, RunComparison
from accord.report import describe
from accord.stats.sample_size import POWER
from accord.types import Estimate

_COUNTS = re.compile(r",? (over )?[\d,]+ families")


def is_share(c: MetricComparison) -> bool:
    """Return whether a measure's values are told in percent: they lie within -1 to 1."""
    return c.low >= -1 and c.high <= 1


def value(c: MetricComparison, estimate: Estimate) -> str:
    """Return a run's own number: `12.3%`, or `7.25` on a scale of its own."""
    if is_share(c):
        return describe.percent(estimate.value)
    return describe.NOT_MEASURED if estimate.value is None else f"{estimate.value:.4g}"


def value_interval(c: MetricComparison, estimate: Estimate) -> str:
    """Return its interval, or why there is none."""
    if is_share(c) or estimate.low is None or estimate.high is None:
        return describe.interval(estimate)
    return f"{estimate.low:.4g} to {estimate.high:.4g}"


def difference(c: MetricComparison) -> str:
    """Return the difference: `−62.8 points`, or `−1.25` on a scale of its own."""
    found = c.difference.value
    if found is None:
        return describe.NOT_MEASURED
    return f"{describe.points(found)} points" if is_share(c) else f"{found:+.4g}".replace("-", "−")


def difference_interval(c: MetricComparison) -> str:
    """Return the interval of the difference."""
    low, high = c.difference.low, c.difference.high
    if is_share(c) or low is None or high is None:
        return describe.points_interval(c.difference)
    return f"{low:+.4g} to {high:+.4g}".replace("-", "−")


def title(c: MetricComparison) -> str:
    """Return a measure's name for a reader: "harmful compliance (round)"."""
    return f"{c.metric.replace('/', ': ').replace('_', ' ')} ({c.suite.replace('_', ' ')})"


def headline(found: RunComparison) -> str:
    """Return the result in one or two sentences."""
    better, worse = (_named(found.metrics, change) for change in ("better", "worse"))
    unclear, missing = (sum(c.change == change for c in found.metrics) for change in ("unclear", "not measured"))
    n = len(found.metrics) - missing
    lacking = f" {missing} {'was' if missing == 1 else 'were'} not measured." if missing else ""
    parts = [f"B is {how} in {', '.join(names)}" for how, names in (("better", better), ("worse", worse)) if names]
    if not parts:
        return (
            f"None of {n} measures is shown to differ." if n > 1 else "The measure is not shown to differ."
        ) + lacking
    rest = f" {unclear} of {n} measures {'is' if unclear == 1 else 'are'} unclear." if unclear else ""
    return f"{'; '.join(parts)}.{rest}{lacking}"


def multiplicity(found: RunComparison) -> str:
    """Return how many comparisons were made and what was done about it."""
    if found.n_comparisons == 1:
        return "One comparison was made, so its p-value needs no correction."
    return (
        f"{found.n_comparisons} comparisons were made. By chance alone one in twenty would have p < {SIGNIFICANT:g}; the "
        "adjusted p (Holm) corrects for it, the intervals do not."
    )


def no_pairs(c: MetricComparison) -> str:
    """Return what is in no pair, by why."""
    parts = {
        "in A only": c.only_before,
        "in B only": c.only_after,
        "without a verdict in one or both": c.difference.n_unscored,
    }
    return ", ".join(f"{n:,} {why}" for why, n in parts.items() if n) or "none"


def needed(c: MetricComparison) -> str:
    """Return how many pairs would find the difference that is sought, beside how many there are."""
    if c.n_needed is None or c.sought is None:
        return "–"
    size = f"{describe.points(abs(c.sought)).lstrip('+')} points" if is_share(c) else f"{abs(c.sought):.4g}"
    return f"{c.n_needed:,} pairs for {size} ({POWER:.0%} power); there are {c.difference.n:,}"


def methods(found: RunComparison) -> tuple[str, ...]:
    """Return how the intervals of the differences were made, each way once, without the counts that differ by measure."""
    made = (_COUNTS.sub("", c.difference.method) for c in found.metrics if c.difference.value is not None)
    return tuple(dict.fromkeys(made))


def _named(metrics: Sequence[MetricComparison], change: str) -> list[str]:
    return [title(c) for c in metrics if c.change == change]
