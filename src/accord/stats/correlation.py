"""How two numbers go together within groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from accord.errors import DataError
from accord.stats.intervals import NOT_MEASURED
from accord.types import Estimate


def correlation_within(
    x: Sequence[float], y: Sequence[float], groups: Sequence[str], confidence: float = 0.95
) -> Estimate:
    """Return Pearson's r of `x` and `y`, each less its group's mean, with Fisher's interval tanh(atanh r ± z / sqrt(df - 2)).

    df = n - groups: every group's mean costs a degree of freedom (one group alone: df - 2 = n - 3, Fisher's own). Nothing is
    measured where either number does not vary within any group, or too few are left. Fisher 1921, "On the probable error of a
    coefficient of correlation", Metron 1.

    Raises:
        DataError: lengths differ.
    """
    if not len(x) == len(y) == len(groups):
        raise DataError(f"{len(x)} and {len(y)} numbers in {len(groups)} groups; expected as many of each")
    names, place = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    df = len(x) - len(names)
    if not len(x):
        return Estimate(None, None, None, 0, NOT_MEASURED)
    counts = np.bincount(place)
    centred = [
        np.asarray(v, dtype=float) - (np.bincount(place, np.asarray(v, dtype=float)) / counts)[place] for v in (x, y)
    ]
    norms = [float(np.sqrt((v**2).sum())) for v in centred]
    if min(norms) <= 1e-12 * max(1.0, *norms):
        return Estimate(None, None, None, 0, f"{NOT_MEASURED}: no spread within the groups")
    r = float(np.clip((centred[0] @ centred[1]) / (norms[0] * norms[1]), -1, 1))
    method = f"Pearson's r within {len(names)} groups, Fisher {confidence:.0%}"
    if df <= 2 or abs(r) == 1:
        return Estimate(r, None, None, len(x), method)
    half = float(norm.ppf(0.5 + confidence / 2)) / math.sqrt(df - 2)
    return Estimate(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), len(x), method)
