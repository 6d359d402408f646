"""A rate looked at while its attempts arrive: an interval and an evidence against a limit that hold at every look at once.

A 95 % Wilson interval that is looked at after every attempt is left by the true rate far more often than once in
twenty. Here the error is under alpha over all looks together, however the moment to stop is chosen. Attempts must be
independent, each a hit with the same rate given those before: one prompt a family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaln

from accord.errors import DataError
from accord.stats.intervals import NOT_MEASURED
from accord.types import Estimate

_STEPS = 50


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """Whether a rate is shown to be below or above a limit so far, and the anytime-valid p-value of each being false."""

    verdict: Literal["below", "above", "open"]
    p_below: float
    p_above: float
    interval: Estimate


def sequential_interval(
    hits: int, n: int, confidence: float = 0.95, unscored: dict[str, int] | None = None
) -> Estimate:
    """Return the rate so far with an interval from a confidence sequence: with the given probability all of them, at
    every n, hold it.

    `{r : M_n(r) < 1/alpha}` with the mixture likelihood ratio `M_n(r) = B(h + 1/2, n - h + 1/2) / B(1/2, 1/2) / (r^h (1
    - r)^(n - h))`, a martingale at the true rate (Ville 1939; Robbins 1970, "Statistical methods related to the law of
    the iterated logarithm"; for Bernoulli attempts it is the betting of Waudby-Smith and Ramdas 2023, arXiv 2010.09686,
    by the Krichevsky-Trofimov strategy). Exact for any n; wider than Wilson's, which is the price of looking.

    Raises:
        DataError: the counts are impossible or `confidence` is outside (0, 1).
    """
    unscored = dict(unscored or {})
    if not 0 <= hits <= n or not 0 < confidence < 1:
        raise DataError(
            f"impossible: {hits} hits of {n} at confidence {confidence}; expected 0 <= hits <= n, 95 % as 0.95"
        )
    if n == 0:
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    low, high = sequential_ends(np.array([hits]), np.array([n]), confidence)
    method = f"confidence sequence, Beta(1/2, 1/2) mixture, {confidence:.0%} over all looks"
    return Estimate(hits / n, float(low[0]), float(high[0]), n, method, unscored)


def sequential_ends(hits: np.ndarray, n: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the confidence sequence for arrays of counts, n >= 1."""
    threshold = -np.log1p(-confidence)
    ends = []
    for border in (0.0, 1.0):
        outside, inside = np.full(hits.shape, border), hits / n
        for _ in range(_STEPS):
            middle = (outside + inside) / 2
            held = log_evidence(hits, n, middle) < threshold
            inside, outside = np.where(held, middle, inside), np.where(held, outside, middle)
        ends.append(np.where(hits == (0 if border == 0 else n), border, outside))
    return ends[0], ends[1]


def log_evidence(hits: np.ndarray | int, n: np.ndarray | int, rate: np.ndarray | float) -> np.ndarray:
    """Return `log M_n(rate)`: the logarithm of the evidence against a true rate."""
    hits, n, rate = np.asarray(hits, dtype=float), np.asarray(n, dtype=float), np.asarray(rate, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = np.where(hits > 0, hits * np.log(rate), 0.0) + np.where(
            n > hits, (n - hits) * np.log1p(-rate), 0.0
        )
    return np.asarray(betaln(hits + 0.5, n - hits + 0.5) - betaln(0.5, 0.5) - likelihood)


def sequential_test(hits: int, n: int, limit: float, alpha: float = 0.05) -> SequentialTest:
    """Return whether a rate is shown to be below or above `limit`, to be asked after any attempt and acted on at once.

    *Below* has the p-value `1 / M_n(limit)` where the rate so far lies below the limit, else 1; likewise *above*. For
    any true rate r at or above the limit M_n(r) is then at least M_n(limit), so by Ville's inequality the chance that
    *below* is ever said of it is at most alpha; likewise *above*. It is the same as reading `sequential_interval`
    against the limit.

    Raises:
        DataError: the counts, the limit or alpha are impossible.
    """
    if not 0 < limit < 1 or not 0 < alpha < 1:
        raise DataError(f"limit {limit} and alpha {alpha} must lie between 0 and 1")
    interval = sequential_interval(hits, n, 1 - alpha)
    if interval.value is None:
        return SequentialTest("open", 1.0, 1.0, interval)
    p_value = min(1.0, float(np.exp(-log_evidence(hits, n, limit))))
    p_below = p_value if interval.value < limit else 1.0
    p_above = p_value if interval.value > limit else 1.0
    verdict: Literal["below", "above", "open"] = (
        "below" if p_below <= alpha else "above" if p_above <= alpha else "open"
    )
    return SequentialTest(verdict, p_below, p_above, interval)
