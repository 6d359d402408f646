"""Agreement of raters: the raw share and Cohen's kappa of two, Krippendorff's alpha of any number with gaps.

Left out: weighted kappa (alpha with an ordinal or interval scale says the same).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import Literal

import krippendorff
import numpy as np
from statsmodels.stats.inter_rater import cohens_kappa

from accord.errors import DataError
from accord.stats.intervals import proportion, wilson
from accord.types import Estimate

NOT_BOTH = "not labelled by both"
RATED_ONCE = "rated by fewer than two"

Scale = Literal["nominal", "ordinal", "interval"]


def raw_agreement(a: Sequence[Hashable], b: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Return the share of items on which raters `a` and `b` gave the same label, with its Wilson interval.

    An item where either label is None is left out and counted in `unscored`.

    Raises:
        DataError: if the two sequences differ in length.
    """
    pairs, unscored = _common(a, b)
    return proportion(sum(x == y for x, y in pairs), len(pairs), unscored, confidence)


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable], confidence: float = 0.95) -> Estimate:
    """Return Cohen's kappa `(p_o - p_e) / (1 - p_e)` of two raters' labels [n], None where it is undefined.

    Cohen (1960); the standard error is that of Fleiss, Cohen and Everitt (1969), through statsmodels. It
    vanishes at perfect agreement: there the Wilson interval of p_o is carried through the formula instead. If both
    used one and the same label, `p_e = 1` and kappa is 0/0: `method` says so, and `raw_agreement` still speaks.

    Raises:
        DataError: if the two sequences differ in length.
    """
    pairs, unscored = _common(a, b)
    n = len(pairs)
    if n == 0:
        return Estimate(None, None, None, 0, "not measured: no common items", unscored)
    codes: dict[Hashable, int] = {}
    for label in (label for pair in pairs for label in pair):
        codes.setdefault(label, len(codes))
    if len(codes) == 1:
        return Estimate(None, None, None, n, "kappa undefined: one label used", unscored)
    table = np.zeros((len(codes), len(codes)))
    np.add.at(table, ([codes[x] for x, _ in pairs], [codes[y] for _, y in pairs]), 1)
    observed = float(np.trace(table)) / n
    expected = float(table.sum(0) @ table.sum(1)) / n**2
    kappa = (observed - expected) / (1 - expected)
    stderr = float(cohens_kappa(table).std_kappa) if 0 < observed < 1 else 0.0
    if stderr > 1e-12:
        half = NormalDist().inv_cdf((1 + confidence) / 2) * stderr
        low, high, how = kappa - half, kappa + half, "analytic SE"
    else:
        bounds = wilson(observed * n, n, confidence)
        low, high = ((bound - expected) / (1 - expected) for bound in bounds)
        how = "Wilson on raw agreement, the analytic SE being 0"
    return Estimate(kappa, max(-1.0, low), min(1.0, high), n, f"Cohen's kappa, {how}, {confidence:.0%}", unscored)


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]],
    scale: Scale = "nominal",
    confidence: float = 0.95,
    n_boot: int = 500,
    seed: int = 0,
) -> Estimate:
    """Return Krippendorff's alpha of `ratings` [items][raters], None being "not rated"; a row may be shorter than others.

    `alpha = 1 - D_observed / D_expected`: 1 is full agreement, 0 that of chance. Krippendorff (2018), "Content
    analysis", chapter 12, through the package krippendorff. The interval is a percentile bootstrap over items; where
    the resamples cannot vary it is None. Items with fewer than two ratings are left out and counted in `unscored`; n
    counts the others. Undefined, and said so in `method`, where all ratings are one value."""
    kept = [[r for r in row if r is not None] for row in ratings]
    kept = [row for row in kept if len(row) > 1]
    unscored = {RATED_ONCE: len(ratings) - len(kept)} if len(kept) < len(ratings) else {}
    if not kept:
        return Estimate(None, None, None, 0, "not measured: no item rated twice", unscored)
    values = sorted({r for row in kept for r in row})
    if len(values) == 1:
        return Estimate(None, None, None, len(kept), "alpha undefined: one value used", unscored)
    counts = np.array([[row.count(v) for v in values] for row in kept])
    domain = np.asarray(values, dtype=float)

    def alpha(counts_of_items: np.ndarray) -> float:
        used = counts_of_items.sum(0) > 0
        if used.sum() < 2:
            return float("nan")
        return float(krippendorff.alpha(
            value_counts=counts_of_items[:, used], value_domain=domain[used], level_of_measurement=scale))  # fmt: skip

    rng = np.random.default_rng(seed)
    draws = np.array([alpha(counts[rng.integers(0, len(kept), len(kept))]) for _ in range(n_boot)])
    draws = draws[np.isfinite(draws)]
    value = alpha(counts)
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2]) if len(draws) else (value, value)
    name = f"Krippendorff's alpha, {scale}"
    if high - low < 1e-12:
        return Estimate(value, None, None, len(kept), f"{name}; resamples cannot vary: no interval", unscored)
    method = f"{name}, bootstrap over items {confidence:.0%}"
    return Estimate(value, float(low), float(high), len(kept), method, unscored)


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> tuple[list[tuple[Hashable, Hashable]], dict[str, int]]:
    if len(a) != len(b):
        raise DataError(f"rater a gave {len(a)} labels and rater b {len(b)}; expected the same items in the same order")
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    missing = len(a) - len(pairs)
    return pairs, ({NOT_BOTH: missing} if missing else {})
