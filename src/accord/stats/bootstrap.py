"""Uncertainty where prompts come in families: resampling of families, and a Wilson interval on an effective n.

Forms of one goal succeed and fail together, so a hundred dressings of one goal are not a hundred observations. Left
out: BCa and studentised intervals, which need a jackknife over families; `clustered_proportion` is what a rate uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from accord.errors import DataError
from accord.stats.intervals import NOT_MEASURED, wilson
from accord.types import Estimate

# Shapes: N values, G families, B resamples.
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]

_CELLS_AT_ONCE = 2_000_000  # B x G cells of resampling weights in memory at a time: 16 MB


def mean_of_sums(sums_B: np.ndarray, counts_B: np.ndarray) -> np.ndarray:
    """Return the mean `sum / count` of each resample [B]."""
    return np.asarray(sums_B / counts_B)


def family_codes(families: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return each row's family as an integer [N], and how many families there are."""
    order: dict[str, int] = {}
    codes_N = np.array([order.setdefault(family, len(order)) for family in families], dtype=np.int64)
    return codes_N, len(order)


def bootstrap_replicates(
    values: Sequence[float],
    clusters: Sequence[str],
    rng: np.random.Generator,
    statistic: Statistic = mean_of_sums,
    n_boot: int = 2000,
) -> np.ndarray:
    """Return the statistic of `n_boot` resamples [B], each of G families drawn with replacement.

    Only sums and counts of families are resampled, so the work is B x G whatever N is.

    Raises:
        DataError: if there are no values, lengths differ, or a value is not finite.
    """
    values_N = np.asarray(values, dtype=float)
    if values_N.ndim != 1 or len(values_N) != len(clusters):
        raise DataError(f"{len(values_N)} values and {len(clusters)} families; expected one family a value")
    if len(values_N) == 0 or not np.isfinite(values_N).all():
        raise DataError("a bootstrap needs at least one value, and finite ones; count what has no verdict as unscored")
    codes_N, n_families = family_codes(clusters)
    sums_G = np.bincount(codes_N, weights=values_N, minlength=n_families)
    counts_G = np.bincount(codes_N, minlength=n_families)
    at_once = max(1, _CELLS_AT_ONCE // n_families)
    chunks = []
    for start in range(0, n_boot, at_once):
        size = min(at_once, n_boot - start)
        weights_BG = rng.multinomial(n_families, np.full(n_families, 1 / n_families), size=size)
        chunks.append(statistic(weights_BG @ sums_G, weights_BG @ counts_G))
    return np.concatenate(chunks) if chunks else np.empty(0)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[str],
    rng: np.random.Generator,
    statistic: Statistic = mean_of_sums,
    n_boot: int = 2000,
    confidence: float = 0.95,
    unscored: Mapping[str, int] | None = None,
) -> Estimate:
    """Return a statistic of `values` [N] with the percentile interval of a bootstrap over families.

    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13. The interval is None where the
    resamples cannot differ (one family, or equal values): a zero-width interval would claim certainty. Below some 20
    families a percentile interval is too narrow; a rate then wants `clustered_proportion`.

    Raises:
        DataError: if lengths differ or a value is not finite.
    """
    unscored = dict(unscored or {})
    if not len(values) and not len(clusters):
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    replicates_B = bootstrap_replicates(values, clusters, rng, statistic, n_boot)
    n_families = len(set(clusters))
    value = float(statistic(np.array([float(np.sum(values))]), np.array([len(values)]))[0])
    low, high = percentile(replicates_B, confidence)
    if n_families < 2 or np.isclose(low, high, rtol=0, atol=1e-12):
        why = f"bootstrap over {n_families} families cannot vary: no interval"
        return Estimate(value, None, None, len(values), why, unscored)
    method = f"percentile bootstrap over {n_families} families, {confidence:.0%}"
    return Estimate(value, low, high, len(values), method, unscored)


def percentile(replicates_B: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the central `confidence` range of replicates [B]."""
    low, high = np.quantile(replicates_B, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class EffectiveSize:
    """How many independent observations a clustered sample is worth."""

    n: float
    design_effect: float
    n_families: int


def few_families_factor(n: int, n_families: int, confidence: float = 0.95) -> float:
    """Return the share of n that is left when a variance rests on G families: `(t(n-1) / t(G-1))^2`, 1 where G = n.

    Korn and Graubard (1998), "Confidence intervals for proportions with small expected number of positive counts
    estimated from survey data". One family alone is worth one observation.
    """
    if n_families >= n:
        return 1.0
    if n_families == 1:
        return 1 / n
    quantile = (1 + confidence) / 2
    ratio = distributions.t.ppf(quantile, n - 1) / distributions.t.ppf(quantile, n_families - 1)
    return max(float(ratio) ** 2, 1 / n)


def effective_size(hits: Sequence[float], families: Sequence[str], confidence: float = 0.95) -> EffectiveSize:
    """Return the effective n of `hits` [N]: `n / deff`, times the factor for few families; a hit may be a share, as a tie is.

    `deff = v_families / v_independent >= 1` (Kish 1965), with the linearised variance
    `v_families = G/(G-1) sum_g (sum_{i in g} (y_i - p))^2 / n^2` and `v_independent = p(1-p)/(n-1)`. Where all or none
    are hits both are 0 and deff is taken as 1, its limit as hits become rare.

    Raises:
        DataError: if lengths differ or there are no values.
    """
    n = len(hits)
    if n != len(families) or n == 0:
        raise DataError(f"{n} verdicts and {len(families)} families; expected one family a verdict, and at least one")
    hits_N = np.asarray(hits, dtype=float)
    codes_N, n_families = family_codes(families)
    rate = float(hits_N.mean())
    design_effect = 1.0
    if 1 < n_families < n and 0 < rate < 1:
        residuals_G = np.bincount(codes_N, weights=hits_N - rate, minlength=n_families)
        by_family = n_families / (n_families - 1) * float(residuals_G @ residuals_G) / n**2
        design_effect = max(1.0, by_family / (rate * (1 - rate) / (n - 1)))
    effective = n / design_effect * few_families_factor(n, n_families, confidence)
    return EffectiveSize(max(effective, 1.0), design_effect, n_families)


def clustered_proportion(
    hits: Sequence[bool],
    families: Sequence[str],
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return the rate of `hits` [N] with a Wilson interval on the effective n of its families.

    The width is never zero, at the borders neither, and equals plain Wilson where each family has one prompt. The
    estimate's `n` counts attempts; `method` gives the families and the design effect. Korn and Graubard (1998) do this
    with Clopper-Pearson; Wilson is less conservative (Dean and Pagano 2015, "Evaluating confidence interval methods
    for binomial proportions in clustered surveys").

    Raises:
        DataError: if lengths differ.
    """
    unscored = dict(unscored or {})
    if not len(hits) and not len(families):
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    size = effective_size(hits, families, confidence)
    rate = float(np.mean(np.asarray(hits, dtype=float)))
    low, high = wilson(rate * size.n, size.n, confidence)
    method = (
        f"Wilson {confidence:.0%}, clustered by {size.n_families} families "
        f"(design effect {size.design_effect:.2f}, effective n {size.n:.1f})"
    )
    return Estimate(rate, low, high, len(hits), method, unscored)
