"""Rows into optimiser steps: what belongs together in one step, the order fixed by the seed."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np


def steps_of_epoch(units: Sequence[Sequence[int]], rows_per_step: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the rows of each optimiser step of one pass: a shuffle that (seed, epoch) alone determines.

    A unit's rows stand in one step; units of one size are spread evenly over the steps, so that every step is a like sample of
    the kinds of rows. Every row is seen once a pass. Steps of single rows differ by one row at most; one that a larger unit
    overfills holds more than `rows_per_step`.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(units)).tolist()
    n_steps = -(-sum(map(len, units)) // rows_per_step)
    steps: list[list[int]] = [[] for _ in range(n_steps)]
    filled = [(0, step) for step in range(n_steps)]
    for unit in sorted(order, key=lambda u: -len(units[u])):
        n, step = filled[0]
        steps[step] += units[unit]
        heapq.heapreplace(filled, (n + len(units[unit]), step))
    return [steps[i] for i in rng.permutation(n_steps).tolist() if steps[i]]
