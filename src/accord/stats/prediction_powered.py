"""The rate on a whole sample of which people labelled a part and a judge all: prediction-powered inference, power-tuned.

The judge only lowers the variance: whatever its error, the labelled part corrects it, so no calibration is needed. Left
out: other targets than a mean (quantiles, regression), and labels that are not a random part of the sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.errors import DataError
from accord.stats.bootstrap import family_codes, few_families_factor
from accord.stats.intervals import NOT_MEASURED
from accord.stats.score_test import corrected_z, exact_without_hits, invert
from accord.types import Estimate

# What is added to each corner (label, judge) of the labelled part before variances are taken: agreement on 20 rows is no proof that
# they never differ.
_ADDED = 0.5


@dataclass(frozen=True, slots=True)
class PoweredMean:
    """The estimate, the weight that the judge was given (0: the labels alone), and how many independent labels it is worth."""

    value: float
    weight: float
    effective_n: float


@dataclass(frozen=True, slots=True)
class Moments:
    """Means over the labelled part of labels y, the judge's scores f and their products, and of f over the rest;
    numbers or arrays [B].
    """

    y: Any
    f: Any
    yy: Any
    ff: Any
    yf: Any
    rest: Any


@dataclass(frozen=True, slots=True)
class Tuned:
    """The power-tuned mean, the judge's weight, and the variances of y, f and y - weight f of one row."""

    value: Any
    weight: Any
    of_y: Any
    of_f: Any
    of_difference: Any


def prediction_powered_rate(
    labels: Sequence[float] | np.ndarray,
    judged_labelled: Sequence[float] | np.ndarray,
    judged_rest: Sequence[float] | np.ndarray,
    families_labelled: Sequence[str] | None = None,
    families_rest: Sequence[str] | None = None,
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return the rate of what people would call hits: PPI++ of `labels` [n], the judge's scores on those [n] and on the rest [N].

    Labels and scores lie in [0, 1]. Angelopoulos, Duchi and Zrnic (2023), "PPI++: efficient prediction-powered
    inference", arXiv 2311.01453, §3 and §6: `mean(Y) - w (mean(f) - mean(f_rest))`. Their normal interval has zero
    width where labels are all equal; here a skewness-corrected score interval is taken on the effective number of
    labels. The estimate's `n` is that of people's labels.

    Raises:
        DataError: if lengths differ or a value is outside [0, 1].
    """
    unscored = dict(unscored or {})
    if not len(labels):
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    mean = powered_mean(labels, judged_labelled, judged_rest, families_labelled, families_rest, confidence)
    low, high = (float(end[0]) for end in powered_interval(mean.value, mean.effective_n, confidence))
    method = (
        f"PPI++ with {len(judged_rest)} more judged, judge's weight {mean.weight:.2f}, worth {mean.effective_n:.1f} labels; "
        f"skewness-corrected score {confidence:.0%}"
    )
    value = min(max(mean.value, 0.0), 1.0)
    return Estimate(value, min(low, value), max(high, value), len(labels), method, unscored, "by people's labels")


def powered_mean(
    labels: Sequence[float] | np.ndarray,
    judged_labelled: Sequence[float] | np.ndarray,
    judged_rest: Sequence[float] | np.ndarray,
    families_labelled: Sequence[str] | None = None,
    families_rest: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> PoweredMean:
    """Return the power-tuned mean; its weight is `cov(Y, f) / ((1 + n/N) var(f))`, within [0, 1] (equation 6 for a mean).

    The effective n is `var(Y) / (var(Y - w f) deff / n + w^2 var(f) deff / N)`, each design effect by families.

    Raises:
        DataError: if lengths differ, there is no label, or a value is outside [0, 1].
    """
    y, f, rest = (np.asarray(v, dtype=float) for v in (labels, judged_labelled, judged_rest))
    if len(y) != len(f) or not len(y):
        raise DataError(
            f"{len(y)} labels and {len(f)} scores of the judge on them; expected one each, and at least one"
        )
    for values in (y, f, rest):
        if not np.all((values >= 0) & (values <= 1)):
            raise DataError(
                "labels and a judge's scores must lie between 0 and 1; count what has no verdict as unscored"
            )
    n, n_rest = len(y), len(rest)
    moments = Moments(
        y.mean(), f.mean(), (y * y).mean(), (f * f).mean(), (y * f).mean(), rest.mean() if n_rest else 0.0
    )
    found = tune(moments, n, n_rest)
    variance = found.of_difference / _worth(y - found.weight * f, families_labelled, confidence)
    if found.weight > 0:
        variance += found.weight**2 * found.of_f / _worth(rest, families_rest, confidence)
    return PoweredMean(float(found.value), float(found.weight), float(max(found.of_y / variance, 1.0)))


def tune(m: Moments, n: int, n_rest: int) -> Tuned:
    """Return the power-tuned mean of `n` labels and `n_rest` more judged.

    Variances are taken with half a row more in each corner (label, judge); the weight's covariance is that of the rows
    alone, so that labels which are all equal give the judge no weight."""
    total = n + 4 * _ADDED
    y, f, yy, ff = ((n * mean + 2 * _ADDED) / total for mean in (m.y, m.f, m.yy, m.ff))
    of_y, of_f, together = yy - y * y, ff - f * f, (n * m.yf + _ADDED) / total - y * f
    if n_rest == 0:
        return Tuned(m.y, m.y * 0.0, of_y, of_f, of_y)
    weight = np.clip((m.yf - m.y * m.f) / ((1 + n / n_rest) * of_f), 0, 1)
    return Tuned(m.y - weight * (m.f - m.rest), weight, of_y, of_f, of_y - 2 * weight * together + weight**2 * of_f)


def powered_interval(
    value: np.ndarray | float, effective_n: np.ndarray | float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of means [B] that are worth `effective_n` [B] labels; never of zero width."""
    centre, n = (np.atleast_1d(np.asarray(v, dtype=float)) for v in (np.clip(value, 0, 1), effective_n))

    def deviate(rate: np.ndarray) -> np.ndarray:
        spread = rate * (1 - rate)
        return corrected_z(centre - rate, spread / n, spread * (1 - 2 * rate) / n**2)

    low, high = invert(deviate, centre, confidence)
    border = exact_without_hits(n, confidence)
    return np.where(centre == 1, np.minimum(low, 1 - border), low), np.where(
        centre == 0, np.maximum(high, border), high
    )


def _worth(values: np.ndarray, families: Sequence[str] | None, confidence: float) -> float:
    """Return how many independent observations `values` [n] in families are worth; n where no families are given."""
    n = len(values)
    if families is None:
        return float(n)
    if len(families) != n:
        raise DataError(f"{n} values and {len(families)} families; expected one family a value")
    codes, n_families = family_codes(families)
    residuals = values - values.mean()
    alone = float(residuals @ residuals)
    effect = 1.0
    if 1 < n_families < n and alone > 0:
        sums = np.bincount(codes, weights=residuals, minlength=n_families)
        effect = max(1.0, n_families / (n_families - 1) * float(sums @ sums) / (alone * n / (n - 1)))
    return max(1.0, n / effect * few_families_factor(n, n_families, confidence))
