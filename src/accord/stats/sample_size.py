"""How many attempts a stated difference of two rates would need, and the smallest difference that a given number can show.

Normal approximations, good to a few attempts where rates are not within a few hits of 0 or n. Sizes are of independent
attempts: with families, multiply by the design effect (`effective_size`)."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy import optimize
from scipy import stats as distributions

from accord.errors import DataError


def size_unpaired(before: float, after: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many attempts each of two independent samples needs, for a two-sided test to find rates `before` and
    `after` different.

    Fleiss, Levin and Paik (2003), "Statistical methods for rates and proportions", equation 4.14, without continuity correction:
    `(z_a sqrt(2 m (1 - m)) + z_b sqrt(p1 (1 - p1) + p2 (1 - p2)))^2 / (p1 - p2)^2` with the mean rate m.

    Raises:
        DataError: a rate is outside [0, 1], the two are equal, or alpha or power is outside (0, 1).
    """
    _check(before, after, alpha, power)
    mean = (before + after) / 2
    z_alpha, z_power = _deviates(alpha, power)
    spread = z_alpha * math.sqrt(2 * mean * (1 - mean)) + z_power * math.sqrt(
        before * (1 - before) + after * (1 - after)
    )
    return math.ceil((spread / (before - after)) ** 2)


def size_paired(difference: float, discordance: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many pairs McNemar's test needs to find a difference, where a share `discordance` of pairs changes its verdict.

    Connor (1987), "Sample size for testing differences in proportions for the paired-sample design":
    `(z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2`. `discordance` is gains plus losses and is at least the difference.

    Raises:
        DataError: the difference is 0, or exceeds the discordance, or a share is outside its range.
    """
    if not 0 < abs(difference) <= discordance <= 1:
        raise DataError(
            f"difference {difference} and discordance {discordance}: expected 0 < |difference| <= discordance <= 1, since the "
            "difference is gains minus losses and the discordance their sum"
        )
    _check(0, 1, alpha, power)
    z_alpha, z_power = _deviates(alpha, power)
    spread = z_alpha * math.sqrt(discordance) + z_power * math.sqrt(discordance - difference**2)
    return math.ceil((spread / difference) ** 2)


def detectable_unpaired(before: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest fall or rise from `before` that two samples of `n` would show; None where not even the largest would.

    The direction is that with more room: towards 0 from above one half, else towards 1; a rate and its mirror image
    need the same.

    Raises:
        DataError: as `size_unpaired`.
    """
    sign, room = (1.0, 1 - before) if before <= 0.5 else (-1.0, before)
    _check(before, before + sign * room, alpha, power)
    return _smallest(lambda d: size_unpaired(before, before + sign * d, alpha, power), n, room)


def detectable_paired(discordance: float, n: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Return the smallest difference that `n` pairs would show at a given discordance; None where not even one-sided
    change would.

    Raises:
        DataError: as `size_paired`.
    """
    if not 0 < discordance <= 1:
        raise DataError(f"discordance {discordance}: expected a share above 0")
    return _smallest(lambda d: size_paired(d, discordance, alpha, power), n, discordance)


def _smallest(size: Callable[[float], int], n: int, most: float) -> float | None:
    if n < 1 or size(most) > n:
        return None
    return float(optimize.bisect(lambda d: size(d) - n - 0.5, 1e-9, most, xtol=1e-9))


def _deviates(alpha: float, power: float) -> tuple[float, float]:
    return float(distributions.norm.ppf(1 - alpha / 2)), float(distributions.norm.ppf(power))


def _check(before: float, after: float, alpha: float, power: float) -> None:
    if not (0 <= before <= 1 and 0 <= after <= 1) or before == after:
        raise DataError(f"rates {before} and {after}: expected two different shares between 0 and 1")
    if not (0 < alpha < 1 and 0 < power < 1):
        raise DataError(f"alpha {alpha} and power {power} must lie between 0 and 1")
