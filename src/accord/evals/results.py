"""What an evaluation leaves behind: every item's value, suite by suite, in `results.json`, and the numbers that follow from them.

Values are kept item by item, since only they can be compared in pairs later. What could not be scored has no value and a reason.
An estimate is never stored in place of the values: it is computed from them, here. Corrected for a judge's error it is stored
beside them, since the calibration that it rests on is not in the file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from accord.errors import DataError
from accord.runs.atomic import write_json
from accord.stats.bootstrap import cluster_bootstrap, clustered_proportion
from accord.stats.intervals import NOT_MEASURED, GroupedMean, macro_mean, wilson
from accord.types import Estimate

RESULTS = "results.json"
ANSWER_KEY = "no judge: compared with the answer key"
Aggregate = Literal["micro", "macro"]
Verdict = Literal["refused", "complied"]

# Below this a percentile bootstrap over families is too narrow (stats.bootstrap); the wider bounded interval is given.
_FEW_FAMILIES = 20
# Inspect's labels; "N" (no answer) is a reason, not a number.
_LABELS = {"C": 1.0, "P": 0.5, "I": 0.0}


@dataclass(frozen=True, slots=True)
class ItemResult:
    """One item of a suite asked once. `value` is None where it could not be scored, and `reason` says why.

    `error` tells an item whose request failed from one whose answer could not be read. `group` is the subtask that a macro mean
    weighs; `family` is what the interval is clustered by.
    """

    id: str
    family: str
    value: float | None
    reason: str = ""
    group: str = ""
    error: bool = False


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """One metric of one suite: its items, and what a reader must know to read their mean.

    `low` and `high` bound what a value can be; `denominator` says in words what stands below the line. `content_hash` is that of
    the items as asked: two results are comparable item by item where it, or the items' ids, are the same. `counts` says which of a
    judge's two verdicts a value of 1 is; empty where a value is more than that, or no judge's. `corrected` is the mean that people
    would have found, where `counts` says something and the judge was calibrated; with no value, and a reason, where undefined.
    """

    suite: str
    metric: str
    higher_is_better: bool
    items: tuple[ItemResult, ...]
    denominator: str
    source: str
    licence: str
    content_hash: str = ""
    scorer: str = ""
    calibration: str = ANSWER_KEY
    aggregate: Aggregate = "micro"
    low: float = 0.0
    high: float = 1.0
    note: str = ""
    counts: Verdict | Literal[""] = ""
    corrected: Estimate | None = None

    @property
    def n_errors(self) -> int:
        """How many items' requests failed."""
        return sum(item.error for item in self.items)

    @property
    def unscored(self) -> dict[str, int]:
        """How many items have no value, by reason."""
        return dict(Counter(item.reason or "no reason given" for item in self.items if item.value is None))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All results of one model under one condition; `skipped` says of each suite that was not run why."""

    model: str
    fingerprint: str
    seed: int
    system: str
    results: tuple[SuiteResult, ...]
    skipped: Mapping[str, str]


def value_of_label(label: str) -> float | None:
    """Return the number of a correctness label: C 1, P (partially) 0.5, I 0; None for N, "no answer".

    Raises:
        DataError: any other label.
    """
    if label not in (*_LABELS, "N"):
        raise DataError(f"'{label}' is no label; expected C (correct), P (partial), I (incorrect) or N (no answer)")
    return _LABELS.get(label)


def within(items: Iterable[ItemResult], low: float, high: float) -> tuple[ItemResult, ...]:
    """Return the items, those whose value is no number from `low` to `high` turned into unscored ones that say so."""

    def checked(item: ItemResult) -> ItemResult:
        if item.value is None or (math.isfinite(item.value) and low <= item.value <= high):
            return item
        return replace(item, value=None, reason=f"score {item.value:g} is outside [{low:g}, {high:g}]")

    return tuple(map(checked, items))


def estimate(result: SuiteResult) -> Estimate:
    """Return the mean of a result's values, as its `aggregate` says, with its interval and what is unscored by reason."""
    if result.aggregate == "macro":
        return _labelled(grouped(result).estimate, result)
    return _labelled(_micro(result), result)


def grouped(result: SuiteResult) -> GroupedMean:
    """Return the unweighted mean of the groups' means, with the error of that same estimator and every group's n."""
    groups: dict[str, list[float]] = {}
    for item in result.items:
        values = groups.setdefault(item.group or "all", [])
        if item.value is not None:
            values.append(item.value)
    return macro_mean(groups)


def over_all(result: SuiteResult) -> float | None:
    """Return the mean over all items, unscored ones counted against the model; None where nothing was scored.

    Beside the mean of what was scored this is the other end: accuracy 5 of 6 with 4 errors is 5 of 10 over all.
    """
    if all(item.value is None for item in result.items):
        return None
    worst = result.low if result.higher_is_better else result.high
    return sum(worst if item.value is None else item.value for item in result.items) / len(result.items)


def error_share(results: Sequence[SuiteResult]) -> float | None:
    """Return the share of items whose request failed; None where nothing was asked."""
    asked = {(r.suite, item.id): item.error for r in results for item in r.items}
    return sum(asked.values()) / len(asked) if asked else None


def write_results(folder: Path, evaluation: Evaluation) -> Path:
    """Write `results.json`: every item, and beside each result its estimate for a reader; return its path."""
    path = folder / RESULTS
    rows = []
    for result in evaluation.results:
        row = asdict(result) | {"estimate": asdict(estimate(result)), "over_all": over_all(result)}
        if any(item.group for item in result.items):
            macro = grouped(result)
            row["macro"] = asdict(macro)
        rows.append(row)
    kept = asdict(evaluation) | {"results": rows, "skipped": dict(evaluation.skipped)}
    write_json(path, kept)
    return path


def read_results(path: Path) -> Evaluation:
    """Return what a run folder's `results.json`, or that file itself, holds.

    Raises:
        DataError: there is none, or it is not what `write_results` writes.
    """
    file = path / RESULTS if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} holds no {RESULTS}; expected the folder of an `accord eval`") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file}: not readable as JSON: {error}") from None
    try:
        results = tuple(_result(row) for row in data["results"])
        return Evaluation(
            str(data["model"]),
            str(data["fingerprint"]),
            int(data["seed"]),
            str(data["system"]),
            results,
            data["skipped"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not the results of an `accord eval`: {type(error).__name__}: {error}") from None


def _result(row: Mapping[str, Any]) -> SuiteResult:
    # Files of before a field was there lack it.
    known = {name: row[name] for name in SuiteResult.__dataclass_fields__ if name in row}
    items = tuple(ItemResult(**item) for item in known.pop("items"))
    known["aggregate"] = cast(Aggregate, known["aggregate"])
    if known.get("corrected"):
        known["corrected"] = Estimate(**known["corrected"])
    return SuiteResult(**known, items=within(items, known["low"], known["high"]))


def _labelled(found: Estimate, result: SuiteResult) -> Estimate:
    return replace(found, unscored=result.unscored, calibration=result.calibration)


def _micro(result: SuiteResult) -> Estimate:
    scored = [(item.value, item.family or item.id) for item in result.items if item.value is not None]
    values, families = [value for value, _ in scored], [family for _, family in scored]
    if not values:
        return Estimate(None, None, None, 0, NOT_MEASURED)
    if all(value in (0.0, 1.0) for value in values) and (result.low, result.high) == (0.0, 1.0):
        return clustered_proportion([value == 1.0 for value in values], families)
    n_families = len(set(families))
    found = cluster_bootstrap(values, families, np.random.default_rng(0))
    if found.low is not None and n_families >= _FEW_FAMILIES:
        return found
    # A value within [low, high] varies no more than a coin of the same mean on that scale (Bhatia and Davis 2000), so Wilson's
    # interval, on as many observations as there are families, is at least as wide as it should be.
    span = result.high - result.low
    mean = sum(values) / len(values)
    share = min(1.0, max(0.0, (mean - result.low) / span))
    low, high = (result.low + span * end for end in wilson(share * n_families, n_families))
    return Estimate(mean, low, high, len(values), f"Wilson 95% on the scale of the values, {n_families} families")
