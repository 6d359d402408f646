"""Rows into batches: a budget of computed positions, rows of like length together, the order fixed by the seed."""

from __future__ import annotations

import numpy as np


def steps_of_epoch(n_rows: int, rows_per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the rows of each optimiser step of one pass: a shuffle that (seed, epoch) alone determines.

    Every row is seen once a pass; the last step holds what is left.
    """
    order = np.random.default_rng([seed, epoch]).permutation(n_rows).tolist()
    return [order[start : start + rows_per_step] for start in range(0, n_rows, rows_per_step)]
