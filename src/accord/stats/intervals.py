"""Rates, means and win rates with the interval that belongs to them.

Every function returns a record that says what was measured and how. Where nothing was measured the number is None and
`method` says why; an interval is never of zero width, for a sample cannot show certainty. A rate that is looked at as
it comes in is `sequential`'s, one that a judge made `judge_error`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import stats as distributions
from statsmodels.stats.proportion import proportion_confint

from accord.errors import DataError
from accord.types import Estimate

NOT_MEASURED = "not measured"


def wilson(hits: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of `hits` out of `n`, clipped to [0, 1]; both may be fractional.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference", through statsmodels.

    Raises:
        DataError: if `n` is not positive, `hits` is outside [0, n], or `confidence` is outside (0, 1).
    """
    _check_confidence(confidence)
    if not n > 0 or not 0 <= hits <= n:
        raise DataError(f"an interval was asked for {hits} hits of {n}; expected n > 0 and 0 <= hits <= n")
    low, high = proportion_confint(hits, n, alpha=1 - confidence, method="wilson")
    # Rounding leaves 1e-17 or 1 - 1e-16 at the borders; a reader should see the border itself.
    return (0.0 if hits == 0 else max(0.0, float(low))), (1.0 if hits == n else min(1.0, float(high)))


def proportion(hits: int, n: int, unscored: Mapping[str, int] | None = None, confidence: float = 0.95) -> Estimate:
    """Return the rate `hits / n` with its Wilson interval.

    Args:
        hits: how many of the assessed attempts were hits.
        n: how many attempts were assessed; attempts that could not be scored are not among them.
        unscored: how many could not be scored, by reason; carried along for the reader.
        confidence: the interval's coverage, in (0, 1).

    Raises:
        DataError: if the counts are impossible.
    """
    unscored = dict(unscored or {})
    if hits < 0 or n < hits or any(count < 0 for count in unscored.values()):
        raise DataError(f"impossible counts: {hits} hits of {n}, unscored {unscored}; expected 0 <= hits <= n")
    _check_confidence(confidence)
    if n == 0:
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    low, high = wilson(hits, n, confidence)
    return Estimate(hits / n, low, high, n, f"Wilson {confidence:.0%}", unscored)


def worst_case_bounds(hits: int, n: int, n_unscored: int) -> tuple[float, float] | None:
    """Return the lowest and highest rate over all attempts, were every unscored one a miss or a hit; None if none.

    Manski (1989), "Anatomy of the selection problem": `[hits, hits + n_unscored] / (n + n_unscored)`.

    Raises:
        DataError: if the counts are impossible.
    """
    if not 0 <= hits <= n or n_unscored < 0:
        raise DataError(f"impossible counts: {hits} hits of {n}, {n_unscored} unscored")
    total = n + n_unscored
    return (hits / total, (hits + n_unscored) / total) if total else None


def mean(
    values: Sequence[float],
    unscored: Mapping[str, int] | None = None,
    confidence: float = 0.95,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Return the mean of `values` [n] with Student's t interval `mean ± t(n-1) s / sqrt(n)`.

    One value, or values that are all equal, show no spread: the mean is given and the interval is None. `bounds` clips
    the interval to the range that a value can take.

    Raises:
        DataError: if a value is not finite (what could not be scored belongs in `unscored`).
    """
    unscored = dict(unscored or {})
    values_N = _finite(values)
    _check_confidence(confidence)
    n = len(values_N)
    if n == 0:
        return Estimate(None, None, None, 0, NOT_MEASURED, unscored)
    centre = float(values_N.mean())
    if n == 1:
        return Estimate(centre, None, None, 1, "mean of one value: no interval", unscored)
    stderr = _stderr(values_N)
    if stderr == 0:
        return Estimate(centre, None, None, n, "mean of equal values: spread not measurable, no interval", unscored)
    half = float(distributions.t.ppf((1 + confidence) / 2, n - 1)) * stderr
    low, high = _clip(centre - half, centre + half, bounds)
    return Estimate(centre, low, high, n, f"mean, t {confidence:.0%}", unscored)


@dataclass(frozen=True, slots=True)
class GroupedMean:
    """A mean over groups: the estimate, the standard error of that same estimator, and every group's size."""

    weighting: Literal["macro", "micro"]
    estimate: Estimate
    stderr: float | None
    n_by_group: Mapping[str, int] = field(default_factory=dict)


def macro_mean(groups: Mapping[str, Sequence[float]], confidence: float = 0.95) -> GroupedMean:
    """Return the unweighted mean of the groups' means: every group counts the same.

    With K groups, `sum(mean_g) / K` and the standard error `sqrt(sum(se_g^2)) / K`. The interval of groups of zeros and
    ones combines their Wilson intervals (MOVER: Zou and Donner 2008, "Construction of confidence limits about effect
    measures: a general approach"), so that a group with no hit adds uncertainty; of other groups it is Welch's t.
    A group without values makes the mean over *these* groups unmeasured, and `method` names it.

    Raises:
        DataError: if a value is not finite.
    """
    arrays = {name: _finite(values) for name, values in groups.items()}
    n_by_group = {name: len(values) for name, values in arrays.items()}
    empty = [name for name, n in n_by_group.items() if n == 0]
    if not arrays or empty:
        why = f"{NOT_MEASURED}: no values in {', '.join(empty)}" if empty else NOT_MEASURED
        return GroupedMean("macro", Estimate(None, None, None, sum(n_by_group.values()), why), None, n_by_group)
    weights = {name: 1 / len(arrays) for name in arrays}
    return _weighted("macro", arrays, weights, confidence)


def micro_mean(groups: Mapping[str, Sequence[float]], confidence: float = 0.95) -> GroupedMean:
    """Return the mean over all values: every group counts by its size.

    With weights `w_g = n_g / N`, `sum(w_g mean_g)` and the standard error of the groups as strata,
    `sqrt(sum(w_g^2 se_g^2))`; the interval is built as in `macro_mean`. Groups without values weigh nothing and stay
    visible in `n_by_group`.

    Raises:
        DataError: if a value is not finite.
    """
    arrays = {name: _finite(values) for name, values in groups.items()}
    n_by_group = {name: len(values) for name, values in arrays.items()}
    total = sum(n_by_group.values())
    if total == 0:
        return GroupedMean("micro", Estimate(None, None, None, 0, NOT_MEASURED), None, n_by_group)
    filled = {name: values for name, values in arrays.items() if len(values)}
    weights = {name: len(values) / total for name, values in filled.items()}
    result = _weighted("micro", filled, weights, confidence)
    return GroupedMean("micro", result.estimate, result.stderr, n_by_group)


def _weighted(
    weighting: Literal["macro", "micro"],
    arrays: Mapping[str, np.ndarray],
    weights: Mapping[str, float],
    confidence: float,
) -> GroupedMean:
    """Return `sum(w_g mean_g)` with its own standard error and interval; every group has at least one value."""
    _check_confidence(confidence)
    n_by_group = {name: len(values) for name, values in arrays.items()}
    total, k = sum(n_by_group.values()), len(arrays)
    value = sum(weights[name] * float(values.mean()) for name, values in arrays.items())
    single = [name for name, n in n_by_group.items() if n == 1]
    # One value has no spread: dropping its group from the sum would understate the error, so there is none.
    terms = {} if single else {name: (weights[name] * _stderr(values)) ** 2 for name, values in arrays.items()}
    stderr = None if single else math.sqrt(sum(terms.values()))
    low: float | None = None
    high: float | None = None
    if all(bool(np.isin(values, (0.0, 1.0)).all()) for values in arrays.values()):
        below = above = 0.0
        for name, values in arrays.items():
            low_g, high_g = wilson(float(values.sum()), len(values), confidence)
            below += (weights[name] * (float(values.mean()) - low_g)) ** 2
            above += (weights[name] * (high_g - float(values.mean()))) ** 2
        low, high = max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above))
        how = f"combined Wilson {confidence:.0%}"
    elif stderr is None:
        how = f"no interval: one value in {', '.join(single)}"
    elif stderr == 0:
        how = "no interval: values equal within every group"
    else:
        df = sum(terms.values()) ** 2 / sum(term**2 / (n_by_group[name] - 1) for name, term in terms.items())
        half = float(distributions.t.ppf((1 + confidence) / 2, df)) * stderr
        low, high, how = value - half, value + half, f"Welch t {confidence:.0%}"
    method = f"{weighting} mean of {k} group{'s' if k != 1 else ''}, {how}"
    return GroupedMean(weighting, Estimate(value, low, high, total, method), stderr, n_by_group)


@dataclass(frozen=True, slots=True)
class WinRate:
    """Games won, tied and lost. Every rate is None where no game was played."""

    wins: int
    ties: int
    losses: int
    adjusted: Estimate

    @property
    def n(self) -> int:
        """How many games were played."""
        return self.wins + self.ties + self.losses

    @property
    def adjusted_win_rate(self) -> float | None:
        """`(wins + ties / 2) / n`: the number to rank by."""
        return self.adjusted.value

    @property
    def win_share(self) -> float | None:
        """Share of games won; wins, ties and losses sum to 1."""
        return self.wins / self.n if self.n else None

    @property
    def tie_share(self) -> float | None:
        """Share of games tied."""
        return self.ties / self.n if self.n else None

    @property
    def loss_share(self) -> float | None:
        """Share of games lost."""
        return self.losses / self.n if self.n else None

    @property
    def margin(self) -> float | None:
        """`(wins - losses) / n`, in [-1, 1]."""
        return (self.wins - self.losses) / self.n if self.n else None


def win_rate(wins: int, ties: int, losses: int, confidence: float = 0.95) -> WinRate:
    """Return the win rate with a tie counted as half a win.

    The interval is Wilson's on `wins + ties / 2` of `n`: conservative, since a tie only lessens the variance of a game.

    Raises:
        DataError: if a count is negative.
    """
    if min(wins, ties, losses) < 0:
        raise DataError(f"impossible counts: {wins} wins, {ties} ties, {losses} losses")
    n = wins + ties + losses
    if n == 0:
        return WinRate(0, 0, 0, Estimate(None, None, None, 0, "no games"))
    half_wins = wins + ties / 2
    low, high = wilson(half_wins, n, confidence)
    estimate = Estimate(half_wins / n, low, high, n, f"wins + ties/2, Wilson {confidence:.0%}")
    return WinRate(wins, ties, losses, estimate)


def rank(records: Mapping[str, WinRate]) -> list[tuple[str, WinRate]]:
    """Return the names and records, best adjusted win rate first, those with no games last; equals by name."""

    def key(item: tuple[str, WinRate]) -> tuple[bool, float, str]:
        rate = item[1].adjusted_win_rate
        return (rate is None, 0.0 if rate is None else -rate, item[0])

    return sorted(records.items(), key=key)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise DataError(f"confidence {confidence} is not between 0 and 1; 95 % is written 0.95")


def _finite(values: Sequence[float]) -> np.ndarray:
    values_N = np.asarray(values, dtype=float)
    if values_N.ndim != 1 or not np.isfinite(values_N).all():
        raise DataError("a mean was asked of values that are not all finite numbers; count those as unscored instead")
    return values_N


def _stderr(values_N: np.ndarray) -> float:
    """Return `s / sqrt(n)` with n - 1 in the variance, exactly 0 where all values are equal (n >= 2)."""
    if np.ptp(values_N) == 0:
        return 0.0
    return float(values_N.std(ddof=1)) / math.sqrt(len(values_N))


def _clip(low: float, high: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    return (low, high) if bounds is None else (max(low, bounds[0]), min(high, bounds[1]))
