"""Is a paired difference chance? A test that flips the sign of each family's sum, exact where the sums are whole numbers.

Under the null hypothesis that the two runs are exchangeable family by family, each sum of differences is as likely with the other
sign (Fisher 1935, "The Design of Experiments", section 21). With right or wrong answers and one item a family this is McNemar's
exact test; unlike that, it does not take the forms of one goal for independent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accord.errors import DataError
from accord.stats.bootstrap import family_codes

N_FLIPS = 20_000
_CELLS_AT_ONCE = 2_000_000
_ROUNDING = 1e-9
# Beyond this the exact distribution has more cells than a sample of it needs.
_LARGEST_TOTAL = 20_000


def sign_flip_p(differences: Sequence[float], families: Sequence[str], seed: int = 0) -> float | None:
    """Return the two-sided p-value `P(|sum of ±S_g| >= |sum of S_g|)` of differences [N] in families; None where N is 0.

    Where the sums are no whole numbers, the share of `N_FLIPS` random flips with the observed one among them, so never 0.

    Raises:
        DataError: if lengths differ or a value is not finite.
    """
    if len(differences) != len(families) or not np.isfinite(np.asarray(differences, dtype=float)).all():
        raise DataError(
            f"{len(differences)} differences and {len(families)} families; expected finite ones, a family each"
        )
    if not len(differences):
        return None
    codes_N, n_families = family_codes(families)
    sums_G = np.bincount(codes_N, weights=np.asarray(differences, dtype=float), minlength=n_families)
    observed = float(sums_G.sum())
    sizes_G = np.abs(sums_G)[np.abs(sums_G) > _ROUNDING]  # what is zero has no sign to flip
    if not len(sizes_G):
        return 1.0
    whole_G = np.rint(sizes_G)
    if np.allclose(sizes_G, whole_G, rtol=0, atol=_ROUNDING) and whole_G.sum() <= _LARGEST_TOTAL:
        return _exact(whole_G.astype(int), round(abs(observed)))
    return _sampled(sizes_G, abs(observed), np.random.default_rng(seed))


def _exact(sizes_G: np.ndarray, observed: int) -> float:
    """Return the tail of the distribution of the signed sum, built family by family over -T..T, T the sum of all sizes."""
    total = int(sizes_G.sum())
    chance_T = np.zeros(2 * total + 1)
    chance_T[total] = 1.0
    for size in sizes_G:
        chance_T = (np.roll(chance_T, size) + np.roll(chance_T, -size)) / 2  # nothing wraps: the mass lies within ±T
    far_T = np.abs(np.arange(-total, total + 1)) >= observed
    return min(1.0, float(chance_T[far_T].sum()))


def _sampled(sizes_G: np.ndarray, observed: float, rng: np.random.Generator) -> float:
    as_far, at_once = 1, max(1, _CELLS_AT_ONCE // len(sizes_G))
    for start in range(0, N_FLIPS, at_once):
        signs_BG = rng.integers(0, 2, size=(min(at_once, N_FLIPS - start), len(sizes_G))) * 2 - 1
        as_far += int((np.abs(signs_BG @ sizes_G) >= observed - _ROUNDING).sum())
    return as_far / (N_FLIPS + 1)
