"""One evaluated run against another, item by item: paired differences, corrected for how many are looked at. Pure functions.

The pairs are the items that both runs were asked and that could be scored both times; everything else is counted, by why it is no
pair. The interval and the test respect families. Left out: comparing more than two runs, and results without items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accord.errors import DataError, NotMeasuredError
from accord.evals.results import Evaluation, ItemResult, SuiteResult, estimate
from accord.stats.multiplicity import holm
from accord.stats.paired import LEFT_OUT, macro_difference, mcnemar_exact, paired_difference, paired_mean_difference
from accord.stats.sample_size import pairs_needed
from accord.stats.sign_flip import sign_flip_p
from accord.types import Estimate

SIGNIFICANT = 0.05
Change = Literal["better", "worse", "unclear", "not measured"]


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of one suite in two runs; a value lies from `low` to `high`.

    `before` and `after` are each run's own number over all that it could score; `difference` is after minus before over the
    pairs only, so the two need not agree to the last digit. `corrected` holds the two runs' own numbers corrected for the
    judge's error, None where a run has none; the difference is not corrected. `rose` and `fell` count pairs whose value
    changed. `p_mcnemar` is that exact test, which takes pairs as independent; None where values are graded. `p_value` respects
    families, and `p_adjusted` is that by Holm's method over all comparisons made. `n_needed` is the number of pairs at which
    the difference (the observed one, or one that was stated: `sought`) would be found four times in five.
    """

    suite: str
    metric: str
    higher_is_better: bool
    low: float
    high: float
    before: Estimate
    after: Estimate
    difference: Estimate
    n_families: int
    only_before: int
    only_after: int
    rose: int
    fell: int
    p_mcnemar: float | None
    p_value: float | None
    p_adjusted: float | None
    sought: float | None
    n_needed: int | None
    notes: tuple[str, ...] = ()
    corrected: tuple[Estimate | None, Estimate | None] = (None, None)

    @property
    def name(self) -> str:
        """`suite/metric`, as a gate names it."""
        return f"{self.suite}/{self.metric}"

    @property
    def change(self) -> Change:
        """What may be said: better or worse only where the interval excludes no change and the adjusted test agrees."""
        low, high = self.difference.low, self.difference.high
        if self.difference.value is None:
            return "not measured"
        if low is None or high is None or low <= 0 <= high or self.p_adjusted is None or self.p_adjusted > SIGNIFICANT:
            return "unclear"
        return "better" if (low > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Two runs: the metrics that both have, how many comparisons were made, and what only one of them measured."""

    before: str
    after: str
    metrics: tuple[MetricComparison, ...]
    n_comparisons: int
    measured_before_only: tuple[str, ...]
    measured_after_only: tuple[str, ...]
    notes: tuple[str, ...]


def compare_runs(
    before: Evaluation, after: Evaluation, names: tuple[str, str], sought: float | None = None
) -> RunComparison:
    """Compare two runs metric by metric over the items that both were asked.

    `sought` is a difference for whose finding the needed number of pairs is told; the observed one where it is None.

    Raises:
        NotMeasuredError: the runs share no metric, or no item of one, or none that both could score.
        DataError: one run has a metric, or a metric an item, twice, or the two runs' scales differ.
    """
    ours, theirs = _by_name(before.results), _by_name(after.results)
    shared = [name for name in ours if name in theirs]
    compared = [compare_metric(ours[name], theirs[name], sought) for name in shared]
    if not any(c.difference.n for c in compared):
        raise NotMeasuredError(_nothing(names, ours, theirs, compared))
    metrics = _adjusted(compared)
    return RunComparison(
        before=names[0],
        after=names[1],
        metrics=metrics,
        n_comparisons=sum(c.p_value is not None for c in metrics),
        measured_before_only=tuple(name for name in ours if name not in theirs),
        measured_after_only=tuple(name for name in theirs if name not in ours),
        notes=_run_notes(before, after),
    )


def compare_metric(before: SuiteResult, after: SuiteResult, sought: float | None = None) -> MetricComparison:
    """Compare one metric; `p_adjusted` is left to whoever knows how many comparisons there are.

    Raises:
        DataError: an item stands twice in one run, or the two runs' scales or directions differ.
    """
    name = f"{before.suite}/{before.metric}"
    for field in ("low", "high", "higher_is_better", "aggregate"):
        if getattr(before, field) != getattr(after, field):
            raise DataError(
                f"{name}: '{field}' is {getattr(before, field)} in one run and {getattr(after, field)} in the other; "
                "expected the same measure in both"
            )
    ours, theirs = _by_id(before), _by_id(after)
    both = [(ours[id], theirs[id]) for id in ours if id in theirs]
    scored = [(a, b, y - x) for a, b in both if (x := a.value) is not None and (y := b.value) is not None]
    families = [a.family or a.id for a, _, _ in scored]
    changes = [change for _, _, change in scored]
    binary = (before.low, before.high) == (0.0, 1.0) and all(
        a.value in (0, 1) and b.value in (0, 1) for a, b, _ in scored
    )
    difference = _difference(before, scored, binary)
    left_out = len(both) - len(scored)
    rose, fell = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
    goal = difference.value if sought is None else sought
    return MetricComparison(
        suite=before.suite,
        metric=before.metric,
        higher_is_better=before.higher_is_better,
        low=before.low,
        high=before.high,
        before=estimate(before),
        after=estimate(after),
        difference=replace(
            difference, unscored={LEFT_OUT: left_out} if left_out else {}, calibration=before.calibration
        ),
        n_families=len(set(families)),
        only_before=len(ours) - len(both),
        only_after=len(theirs) - len(both),
        rose=rose,
        fell=fell,
        p_mcnemar=mcnemar_exact(fell, rose) if binary and scored else None,
        p_value=sign_flip_p(_weighted(before, scored), families),
        p_adjusted=None,
        sought=goal,
        n_needed=None if goal is None else pairs_needed(changes, families, goal, binary),
        notes=_notes(before, after, both),
        corrected=(before.corrected, after.corrected),
    )


def changed_items(
    compared: MetricComparison, before: Evaluation, after: Evaluation
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the ids of a metric's items whose value rose, and of those whose value fell."""
    ours, theirs = (_by_id(_by_name(run.results)[compared.name]) for run in (before, after))
    pairs = [(id, a.value, theirs[id].value) for id, a in ours.items() if id in theirs]
    moved = [(id, x, y) for id, x, y in pairs if x is not None and y is not None]
    return tuple(id for id, x, y in moved if y > x), tuple(id for id, x, y in moved if y < x)


_Pair = tuple[ItemResult, ItemResult, float]


def _difference(result: SuiteResult, scored: Sequence[_Pair], binary: bool) -> Estimate:
    """Return the difference, weighed as the runs' own numbers are."""
    span = result.high - result.low
    if result.aggregate == "micro":
        return _of_pairs(scored, span, binary)
    groups: dict[str, list[_Pair]] = {}
    for pair in scored:
        groups.setdefault(pair[0].group or "all", []).append(pair)
    return macro_difference([_of_pairs(own, span, binary) for own in groups.values()], span)


def _of_pairs(scored: Sequence[_Pair], span: float, binary: bool) -> Estimate:
    families = [a.family or a.id for a, _, _ in scored]
    if binary:
        before, after = [a.value == 1 for a, _, _ in scored], [b.value == 1 for _, b, _ in scored]
        return paired_difference(before, after, families).difference
    return paired_mean_difference([change for _, _, change in scored], families, span)


def _weighted(result: SuiteResult, scored: Sequence[_Pair]) -> list[float]:
    """Return the changes, weighed so that their mean is the difference; the test's p-value depends on their ratios only."""
    if result.aggregate == "micro":
        return [change for _, _, change in scored]
    size = Counter(a.group for a, _, _ in scored)
    return [change / size[a.group] for a, _, change in scored]


def _adjusted(compared: Sequence[MetricComparison]) -> tuple[MetricComparison, ...]:
    adjusted = holm([c.p_value for c in compared])
    return tuple(replace(c, p_adjusted=p) for c, p in zip(compared, adjusted, strict=True))


def _by_name(results: Iterable[SuiteResult]) -> dict[str, SuiteResult]:
    named: dict[str, SuiteResult] = {}
    for result in results:
        name = f"{result.suite}/{result.metric}"
        if name in named:
            raise DataError(f"{name} stands twice in one run; expected each metric of a suite once")
        named[name] = result
    return named


def _by_id(result: SuiteResult) -> dict[str, ItemResult]:
    items = {item.id: item for item in result.items}
    if len(items) < len(result.items):
        twice = Counter(item.id for item in result.items).most_common(1)[0][0]
        raise DataError(
            f"{result.suite}/{result.metric}: item '{twice}' stands twice in one run; expected each id once"
        )
    return items


def _notes(before: SuiteResult, after: SuiteResult, both: Sequence[tuple[ItemResult, ItemResult]]) -> tuple[str, ...]:
    notes = []
    if before.scorer != after.scorer:
        notes.append("scored by different scorers, so the difference may be theirs")
    if before.content_hash != after.content_hash and both:
        notes.append("the two runs asked different sets of items; those with the same id are taken for the same")
    moved = sum(a.family != b.family for a, b in both)
    if moved:
        notes.append(f"{moved} items changed family; the first run's families are used")
    return tuple(notes)


def _run_notes(before: Evaluation, after: Evaluation) -> tuple[str, ...]:
    # No fingerprint is known of what was measured elsewhere.
    if before.fingerprint and (before.fingerprint, before.system) == (after.fingerprint, after.system):
        return ("Both runs are of the same model under the same system prompt: a difference is chance, or the seed's.",)
    return ()


def _nothing(
    names: tuple[str, str],
    ours: dict[str, SuiteResult],
    theirs: dict[str, SuiteResult],
    compared: Sequence[MetricComparison],
) -> str:
    """Return why two runs cannot be compared, and what to do."""
    begin = f"{names[0]} and {names[1]} cannot be compared"
    if not compared:
        listed = [", ".join(side) or "nothing" for side in (ours, theirs)]
        return (
            f"{begin}: they share no metric ({listed[0]} there; {listed[1]} here); evaluate both with the same --suite"
        )
    if not any(c.difference.n_unscored for c in compared):
        return f"{begin}: they share no item of {', '.join(c.name for c in compared)}; evaluate both on the same items"
    return f"{begin}: not one item could be scored in both"
