"""What the best of k answers is worth, from n that were sampled."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from accord.errors import DataError


def best_of(chosen_by: Sequence[float], valued: Sequence[float], k: int) -> float:
    """Return what `valued` gives the best of k answers by `chosen_by`, on average over all choices of k of the n answers.

    With answers in rising order, the i-th (from 1) is the best of comb(i - 1, k - 1) of the comb(n, k) choices: an unbiased
    estimate of what k fresh answers would come to. Of answers that are equally good any may be taken. Nakano et al.,
    arXiv 2112.09332, appendix I; Gao et al., arXiv 2210.10760, §3.

    Raises:
        DataError: lengths differ, or k is not from 1 to n.
    """
    if len(chosen_by) != len(valued) or not 1 <= k <= len(valued):
        raise DataError(
            f"the best of {k} of {len(chosen_by)} answers, {len(valued)} of which are valued: expected 1 to n"
        )
    scores_N, values_N = np.asarray(chosen_by, dtype=float), np.asarray(valued, dtype=float)
    _, place_N = np.unique(scores_N, return_inverse=True)
    shared_N = (np.bincount(place_N, values_N) / np.bincount(place_N))[place_N]
    n = len(scores_N)
    weights_N = np.array([math.comb(i, k - 1) for i in range(n)], dtype=float) / math.comb(n, k)
    return float(weights_N @ shared_N[np.argsort(scores_N, kind="stable")])


def best_of_kl(k: int) -> float:
    """Return log k - (k - 1) / k: how many nats the best of k answers is from the model that gave them, at most.

    Stiennon et al., arXiv 2009.01325, appendix G.3, give it as the divergence itself, which it is where no two answers are equally
    good; else it is above it (Beirami et al., arXiv 2401.01879).
    """
    return math.log(k) - (k - 1) / k
