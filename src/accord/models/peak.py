"""The matrix peak: the fastest product that the machine shows, which everything that multiplies is held against."""

from __future__ import annotations

import functools
import time

import torch
from torch.nn import functional as F

from accord.models.projection import Projection

# Rows, inputs and outputs. Large enough for any unit to be busy, small enough to be timed in a few milliseconds.
SHAPES = ((1024, 576, 1536), (2048, 576, 1536), (1024, 2048, 2048))
GPU_SHAPES = ((8192, 8192, 8192), (8192, 4096, 14336))
REPEATS = 5
LONGEST_S = 0.3


@functools.cache
def matrix_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Return the best rate of a few products in FLOP/s, timed once a process and number format, in at most a second."""
    generator = torch.Generator().manual_seed(0)
    best = 0.0
    for rows, n_in, n_out in SHAPES if device.type == "cpu" else GPU_SHAPES:
        x = torch.randn(rows, n_in, generator=generator).to(device, dtype)
        weight = torch.randn(n_out, n_in, generator=generator).to(device, dtype)
        projection = Projection(weight)
        until = time.perf_counter() + LONGEST_S
        for _ in range(REPEATS + 1):  # the first finds its kernel
            for product in (functools.partial(F.linear, x, weight), functools.partial(projection.forward, x)):
                _settle(device)
                began = time.perf_counter()
                product()
                _settle(device)
                best = max(best, 2 * rows * n_in * n_out / (time.perf_counter() - began))
            if time.perf_counter() > until:
                break
    return best


def _settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
