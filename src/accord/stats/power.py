"""How many items a paired comparison needs, to find a difference if there is one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats as distributions

from accord.errors import DataError
from accord.stats.bootstrap import family_codes

ALPHA = 0.05
POWER = 0.8


def paired_items_needed(
    differences: Sequence[float],
    families: Sequence[str],
    difference: float,
    binary: bool,
    alpha: float = ALPHA,
    power: float = POWER,
) -> int | None:
    """Return how many pairs a two-sided test at `alpha` needs to find a mean `difference` with probability `power`.

    `n = (z_{1-alpha/2} s_0 + z_power s_1)^2 / difference^2`, where `s_0^2 = sum_g S_g^2 / N` is the variance of an item's
    difference with no effect and `s_1^2 = s_0^2 - difference^2` that with one. With right or wrong answers and one item a
    family `s_0^2` is the share of pairs that disagree: Connor (1987), "Sample size for testing differences in proportions for
    the paired-sample design". Families of many forms make the sum over families larger, and so the need. The variance is that
    of the pairs at hand, and at least what the difference itself implies. None where there are no pairs, or the difference is 0.

    Raises:
        DataError: if lengths differ.
    """
    n = len(differences)
    if n != len(families):
        raise DataError(f"{n} differences and {len(families)} families; expected one family a difference")
    if n == 0 or difference == 0:
        return None
    codes_N, n_families = family_codes(families)
    sums_G = np.bincount(codes_N, weights=np.asarray(differences, dtype=float), minlength=n_families)
    # A difference of 0.1 between right and wrong answers needs at least a tenth of the pairs to disagree.
    least = abs(difference) if binary else difference**2
    without = max(float(sums_G @ sums_G) / n, least)
    with_effect = max(without - difference**2, 0.0)
    z_alpha, z_power = distributions.norm.ppf(1 - alpha / 2), distributions.norm.ppf(power)
    return math.ceil(float(z_alpha * math.sqrt(without) + z_power * math.sqrt(with_effect)) ** 2 / difference**2)
