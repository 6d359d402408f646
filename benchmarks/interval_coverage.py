"""How often the 95 % intervals of a rate hold the true one: Wilson, corrected for a judge's error, and prediction-powered.

Every cell draws data sets from a known rate (and a judge of known error) and counts the intervals that hold it. `make coverage`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from machine import processor

from accord.stats.bootstrap import effective_size
from accord.stats.intervals import wilson
from accord.stats.judge_error import corrected_interval
from accord.stats.prediction_powered import Moments, powered_interval, powered_mean, tune

RATES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0)
SIZES = (20, 50, 100, 200, 500, 2000)
JUDGES = ((0.9, 0.95), (0.7, 0.8), (0.95, 0.6), (0.99, 0.99))  # sensitivity, specificity
CALIBRATIONS = (50, 200)  # rows of either class
UNLABELLED = (1, 4, 10)  # for every label
FAMILY, CORRELATION = 4, 0.3
LEAST_MEAN, MOST_MEAN, LEAST_FROM_50 = 0.94, 0.98, 0.92

Ends = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Cell:
    """One method at one size and rate under one judge: the share of intervals that hold the rate, and the narrowest."""

    method: str
    setting: str
    n: int
    rate: float
    coverage: float
    least_width: float


def _distinct(function: Callable[..., Ends], *columns: np.ndarray) -> Ends:
    """Compute each distinct data set once: small counts repeat."""
    rows, where = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    low, high = function(*rows.T)
    return low[where.ravel()], high[where.ravel()]


def _families(rng: np.random.Generator, rate: float, n: int, repeats: int) -> np.ndarray:
    """Return hits [B, n] in families of `FAMILY` with the given correlation within."""
    groups = -(-n // FAMILY)
    if 0 < rate < 1:
        spread = 1 / CORRELATION - 1
        own = rng.beta(rate * spread, (1 - rate) * spread, size=(repeats, groups))
    else:
        own = np.full((repeats, groups), rate)
    return rng.random((repeats, n)) < np.repeat(own, FAMILY, axis=1)[:, :n]


def plain(rng: np.random.Generator, rate: float, n: int, repeats: int) -> Ends:
    """Wilson on independent attempts."""
    ends = np.array([wilson(k, n) for k in range(n + 1)])
    hits = rng.binomial(n, rate, repeats)
    return ends[hits, 0], ends[hits, 1]


def _effective(hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    families = [str(i // FAMILY) for i in range(hits.shape[1])]
    sizes = np.array([effective_size(row.tolist(), families).n for row in hits])
    return hits.mean(1), sizes


def clustered(rng: np.random.Generator, rate: float, n: int, repeats: int) -> Ends:
    """Wilson on the effective number of attempts in families."""
    rates, sizes = _effective(_families(rng, rate, n, repeats))
    ends = np.array([wilson(r * s, s) for r, s in zip(rates, sizes, strict=True)])
    return ends[:, 0], ends[:, 1]


def corrected(judge: tuple[float, float], rows: int, in_families: bool) -> Callable[..., Ends]:
    """Rogan-Gladen, with a judge whose error is estimated on `rows` of either class."""

    def ends(rng: np.random.Generator, rate: float, n: int, repeats: int) -> Ends:
        sensitivity, specificity = judge
        if in_families:
            truth = _families(rng, rate, n, repeats)
            said = rng.random(truth.shape) < np.where(truth, sensitivity, 1 - specificity)
            shares, sizes = _effective(said)
        else:
            shares = rng.binomial(n, rate * sensitivity + (1 - rate) * (1 - specificity), repeats) / n
            sizes = np.full(repeats, float(n))
        a, c = rng.binomial(rows, sensitivity, repeats), rng.binomial(rows, 1 - specificity, repeats)
        usable = a > c  # elsewhere sensitivity + specificity <= 1: no number is given
        a, c, all_rows = a[usable], c[usable], np.full(usable.sum(), float(rows))
        return _distinct(
            lambda x, m, a, p, c, q: corrected_interval(x * m, m, a, p, c, q),
            shares[usable], sizes[usable], a, all_rows, c, all_rows,
        )  # fmt: skip

    return ends


def powered(judge: tuple[float, float], more: int) -> Callable[..., Ends]:
    """PPI++ with n labels and `more` times as many rows that only the judge saw."""

    def ends(rng: np.random.Generator, rate: float, n: int, repeats: int) -> Ends:
        sensitivity, alarms = judge[0], 1 - judge[1]
        table = (rate * sensitivity, rate * (1 - sensitivity), (1 - rate) * alarms, (1 - rate) * (1 - alarms))
        both, y_only, f_only, _ = (rng.multinomial(n, table, size=repeats) / n).T
        rest = rng.binomial(n * more, rate * sensitivity + (1 - rate) * alarms, repeats) / (n * more)
        y, f = both + y_only, both + f_only
        found = tune(Moments(y, f, y, f, both, rest), n, n * more)
        variance = found.of_difference / n + found.weight**2 * found.of_f / (n * more)
        return powered_interval(found.value, np.maximum(found.of_y / variance, 1.0))

    return ends


def powered_families(judge: tuple[float, float], more: int) -> Callable[..., Ends]:
    """The same where both parts come in families."""

    def ends(rng: np.random.Generator, rate: float, n: int, repeats: int) -> Ends:
        values, sizes = np.empty(repeats), np.empty(repeats)
        truths = _families(rng, rate, n * (1 + more), repeats)
        names = [str(i // FAMILY) for i in range(truths.shape[1])]
        for b, truth in enumerate(truths):
            said = (rng.random(len(truth)) < np.where(truth, judge[0], 1 - judge[1])).astype(float)
            found = powered_mean(truth[:n].astype(float), said[:n], said[n:], names[:n], names[n:])
            values[b], sizes[b] = found.value, found.effective_n
        return powered_interval(values, sizes)

    return ends


def measure(repeats: int, sizes: Sequence[int], rates: Sequence[float]) -> list[Cell]:
    """Return every cell; those that draw row by row take a quarter of the repeats, and the largest size is left out of theirs."""
    jobs: list[tuple[str, str, Callable[..., Ends], bool]] = [
        ("Wilson", "", plain, False),
        ("Wilson, families", f"{FAMILY} each", clustered, True),
    ]
    for judge in JUDGES:
        said = f"judge {judge[0]}/{judge[1]}"
        jobs += [("Rogan-Gladen", f"{said}, {m}+{m} rows", corrected(judge, m, False), False) for m in CALIBRATIONS]
        jobs += [("PPI++", f"{said}, 1:{m}", powered(judge, m), False) for m in UNLABELLED]
    jobs += [
        ("Rogan-Gladen, families", "judge 0.9/0.95, 200+200 rows", corrected(JUDGES[0], 200, True), True),
        ("PPI++, families", "judge 0.9/0.95, 1:4", powered_families(JUDGES[0], 4), True),
    ]
    cells = []
    rng = np.random.default_rng(20231106)
    for method, setting, ends, row_by_row in jobs:
        for n in sizes:
            for rate in rates:
                count = max(100, repeats // 4) if row_by_row else repeats
                if row_by_row and n > 500:
                    continue
                low, high = ends(rng, rate, n, count)
                held = (low <= rate + 1e-9) & (rate <= high + 1e-9)
                cells.append(Cell(method, setting, n, rate, float(held.mean()), float((high - low).min())))
    return cells


def main() -> None:
    """Print the table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run: few repeats, sizes and rates")
    parser.add_argument("--repeats", type=int, default=2000, help="data sets a cell")
    options = parser.parse_args()
    start = time.perf_counter()
    cells = measure(100, (20, 50), (0.0, 0.02, 0.5, 1.0)) if options.quick else measure(options.repeats, SIZES, RATES)
    methods: dict[str, Any] = {}
    print(f"{'method':<24}{'setting':<32}{'n':>6}{'mean':>8}{'least':>8}{'at rate':>9}{'narrowest':>11}")
    for method in dict.fromkeys(c.method for c in cells):
        of_method = [c for c in cells if c.method == method]
        for setting, n in dict.fromkeys((c.setting, c.n) for c in of_method):
            row = [c for c in of_method if (c.setting, c.n) == (setting, n)]
            worst = min(row, key=lambda c: c.coverage)
            print(
                f"{method:<24}{setting:<32}{n:>6}{np.mean([c.coverage for c in row]):>8.3f}{worst.coverage:>8.3f}"
                f"{worst.rate:>9.3f}{min(c.least_width for c in row):>11.5f}"
            )
        from_50 = [c for c in of_method if c.n >= 50]
        methods[method] = {
            "cells": len(of_method),
            "mean": round(float(np.mean([c.coverage for c in of_method])), 4),
            "mean_by_n": {str(n): round(float(np.mean([c.coverage for c in of_method if c.n == n])), 4)
                          for n in dict.fromkeys(c.n for c in of_method)},
            "least_from_50": round(min(c.coverage for c in from_50), 4),
            "cells_below_0.92_from_50": sum(c.coverage < LEAST_FROM_50 for c in from_50),
            "least_width": min(c.least_width for c in of_method),
        }  # fmt: skip
    met = all(
        LEAST_MEAN <= m["mean"] <= MOST_MEAN and m["least_from_50"] >= LEAST_FROM_50 and m["least_width"] > 0
        for m in (methods["Rogan-Gladen"], methods["PPI++"])
    )
    print(json.dumps({"work": "coverage of 95 % intervals", "ours": methods, "unit": "share of intervals", "met": met,
                      "repeats": options.repeats, "seconds": round(time.perf_counter() - start, 1),
                      "processor": processor(torch.device("cpu"))}))  # fmt: skip


if __name__ == "__main__":
    main()
