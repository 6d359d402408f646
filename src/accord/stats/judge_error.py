"""A rate that a judge gave, corrected for the judge's measured error, with an interval that carries the calibration's own.

Left out: an error that differs between calibration and use. No arithmetic can see that; a calibration is worth what its
sample has in common with what is judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accord.errors import DataError
from accord.stats.bootstrap import effective_size
from accord.stats.intervals import NOT_MEASURED, wilson
from accord.stats.score_test import corrected_z, exact_without_hits, invert
from accord.types import Estimate

_STEPS = 28  # halvings of [0, 1]: 4e-9


@dataclass(frozen=True, slots=True)
class JudgeError:
    """What a calibration sample says of a judge: how often it said "hit" where people said hit, and where they said no hit.

    Counts may be fractional: an effective size, where the sample comes in families.

    Raises:
        DataError: if the counts are impossible.
    """

    hits_of_positive: float
    n_positive: float
    hits_of_negative: float
    n_negative: float

    def __post_init__(self) -> None:
        if not (0 <= self.hits_of_positive <= self.n_positive and 0 <= self.hits_of_negative <= self.n_negative):
            raise DataError(f"impossible counts in a judge's calibration: {self}")

    @property
    def measured(self) -> bool:
        """Whether the sample has both what people call a hit and what they do not."""
        return self.n_positive > 0 and self.n_negative > 0

    @property
    def sensitivity(self) -> float:
        """Share of people's hits that the judge calls hits."""
        return self.hits_of_positive / self.n_positive

    @property
    def specificity(self) -> float:
        """Share of what people call no hit that the judge calls so."""
        return 1 - self.hits_of_negative / self.n_negative

    def youden(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval of sensitivity + specificity - 1, the difference of two rates.

        Newcombe (1998), "Interval estimation for the difference between independent proportions", method 10.
        """
        sensitivity, false_alarms = self.sensitivity, 1 - self.specificity
        low_s, high_s = wilson(self.hits_of_positive, self.n_positive, confidence)
        low_f, high_f = wilson(self.hits_of_negative, self.n_negative, confidence)
        difference = sensitivity - false_alarms
        return (
            difference - float(np.hypot(sensitivity - low_s, high_f - false_alarms)),
            difference + float(np.hypot(high_s - sensitivity, false_alarms - low_f)),
        )


def rogan_gladen(
    hits: float,
    n: int,
    judge: JudgeError,
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
    effective_n: float | None = None,
) -> Estimate:
    """Return the true rate behind `hits` of `n` that the judge called hits: `(rate + specificity - 1) / (sensitivity +
    specificity - 1)`.

    Rogan and Gladen (1978), "Estimating prevalence from the results of a screening test", clipped to [0, 1]; the
    interval is that of `corrected_interval`. No number where sensitivity + specificity <= 1 (such a judge says nothing
    about the rate); where only their interval reaches 1, `method` says so. `effective_n` stands in for n in the
    interval where attempts come in families.

    Raises:
        DataError: if the counts are impossible.
    """
    unscored = dict(unscored or {})
    if not 0 <= hits <= n:
        raise DataError(f"impossible counts: {hits} hits of {n}; expected 0 <= hits <= n")
    if n == 0:
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    if not judge.measured:
        return Estimate(None, None, None, n, "undefined: the judge's error was not measured on both classes", unscored)
    power = judge.sensitivity + judge.specificity - 1
    if power <= 0:
        return Estimate(None, None, None, n, f"undefined: sensitivity + specificity = {power + 1:.3f} <= 1", unscored)
    rate, size = hits / n, n if effective_n is None else effective_n
    unclipped = (rate - (1 - judge.specificity)) / power
    cells = (judge.hits_of_positive, judge.n_positive, judge.hits_of_negative, judge.n_negative)
    low, high = _one_interval(rate * size, size, cells, confidence)
    value = float(np.clip(unclipped, 0, 1))
    notes = [f"Rogan-Gladen, skewness-corrected score {confidence:.0%}"]
    if effective_n is not None:
        notes.append(f"effective n {effective_n:.1f}")
    if judge.youden(confidence)[0] <= 0:
        notes.append("sensitivity + specificity may be 1: hardly identified")
    if not 0 <= unclipped <= 1:
        notes.append(f"clipped from {unclipped:.3f}: the judge may err otherwise here than where it was calibrated")
    return Estimate(value, min(low, value), max(high, value), n, "; ".join(notes), unscored)


def rogan_gladen_clustered(
    hits: Sequence[bool],
    families: Sequence[str],
    judge: JudgeError,
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Return `rogan_gladen` of verdicts [N] that come in families, on their effective n (`effective_size`).

    Raises:
        DataError: if lengths differ.
    """
    if len(hits) != len(families):
        raise DataError(f"{len(hits)} verdicts and {len(families)} families; expected one family a verdict")
    size = effective_size(hits, families, confidence).n if len(hits) else None
    return rogan_gladen(sum(map(bool, hits)), len(hits), judge, unscored, confidence, size)


# A report asks for the same counts again: an interval takes a tenth of a second.
@lru_cache(maxsize=256)
def _one_interval(
    hits: float, n: float, cells: tuple[float, float, float, float], confidence: float
) -> tuple[float, float]:
    low, high = corrected_interval(hits, n, *cells, confidence=confidence)
    return float(low[0]), float(high[0])


def corrected_interval(
    hits: np.ndarray | float,
    n: np.ndarray | float,
    hits_of_positive: np.ndarray | float,
    n_positive: np.ndarray | float,
    hits_of_negative: np.ndarray | float,
    n_negative: np.ndarray | float,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the interval of a true rate, for arrays [B] of counts at once; never of zero width.

    For a supposed rate r, `T = hits/n - r s - (1 - r) f`, with the calibration's sensitivity s and false alarms f, has
    mean 0 whatever the judge's true error is, so r is kept where T is no further from 0 than chance takes it: Wilson's
    idea with all three samples' chance in it. Variance and third moment are those at the most likely s and f given r
    (Miettinen and Nurminen 1985, "Comparative analysis of two rates"). Where the judge calls fewer hits than its false
    alarms alone would be (or more than its sensitivity allows), few rates or none would be kept and the interval would
    look certain; there it is that of the nearest count that a rate of 0 (or 1) explains.
    """
    cells = np.broadcast_arrays(*(np.asarray(c, dtype=float) for c in (
        hits, n, hits_of_positive, n_positive, hits_of_negative, n_negative)))  # fmt: skip
    x, n_, a, n_pos, c, n_neg = (np.atleast_1d(cell).copy() for cell in cells)
    sens, alarms = a / n_pos, c / n_neg
    power = sens - alarms
    none, all_ = x == 0, x == n_
    x = np.clip(x / n_, np.minimum(alarms, sens), np.maximum(alarms, sens)) * n_
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = np.clip(np.where(power > 0, (x / n_ - alarms) / power, 0.5), 0, 1)

    def deviate(rate: np.ndarray) -> np.ndarray:
        s, f = _most_likely(rate, x, n_, a, n_pos, c, n_neg)
        p = rate * s + (1 - rate) * f
        distance = x / n_ - rate * sens - (1 - rate) * alarms
        v_p, v_s, v_f = p * (1 - p), s * (1 - s), f * (1 - f)
        variance = v_p / n_ + rate**2 * v_s / n_pos + (1 - rate) ** 2 * v_f / n_neg
        third = (
            v_p * (1 - 2 * p) / n_**2
            - rate**3 * v_s * (1 - 2 * s) / n_pos**2
            - (1 - rate) ** 3 * v_f * (1 - 2 * f) / n_neg**2
        )
        return corrected_z(distance, variance, third)

    low, high = invert(deviate, centre, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        border = exact_without_hits(n_, confidence)
        highest, lowest = (border - alarms) / power, (1 - border - alarms) / power
    usable = power > 0
    high = np.where(none & usable, np.clip(np.maximum(high, highest), 0, 1), high)
    return np.where(all_ & usable, np.clip(np.minimum(low, lowest), 0, 1), low), high


def _most_likely(
    rate: np.ndarray,
    x: np.ndarray,
    n: np.ndarray,
    a: np.ndarray,
    n_pos: np.ndarray,
    c: np.ndarray,
    n_neg: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most likely sensitivity and false-alarm rate [B], given the true rate.

    With `u = x/p - (n - x)/(1 - p)` at `p = rate s + (1 - rate) f`, the score equations are two quadratics: `a/s -
    (n_pos - a)/(1 - s) + u rate = 0`, and the same for f with `1 - rate`. Both solutions fall as p rises, so p is found
    by halving.
    """
    low, high = np.zeros_like(x), np.ones_like(x)
    for _ in range(_STEPS):
        p = (low + high) / 2
        u = x / p - (n - x) / (1 - p)
        s, f = _tilted(a, n_pos, u * rate), _tilted(c, n_neg, u * (1 - rate))
        above = rate * s + (1 - rate) * f > p
        low, high = np.where(above, p, low), np.where(above, high, p)
    return s, f


def _tilted(hits: np.ndarray, n: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Return the root in [0, 1] of `hits (1 - s) - (n - hits) s + pull s (1 - s) = 0`, increasing in `pull`."""
    b = n - pull
    root = np.sqrt(np.maximum(b * b + 4 * pull * hits, 0.0))
    # Of the two forms of the quadratic's root, the one that does not cancel.
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(b >= 0, 2 * hits / (b + root), np.where(pull == 0, hits / n, (root - b) / (2 * pull)))
    return np.asarray(np.clip(np.nan_to_num(s), 0.0, 1.0))
