"""A peer tuned in its favour, and both sides measured in turn: what the benchmarks against another trainer share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from machine import MatrixPeak, paired_ratio, say

# The batch size at which number formats are compared.
FORMAT_BATCH = 4


@dataclass(frozen=True, slots=True)
class Setup:
    """How the peer is run: what is set other than its defaults; `sort`: rows are given to it sorted by length."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sort: bool = False


def tuned_setup(batch_size: int, rows_per_step: int, weights: str = "float32", autocast: bool = False) -> Setup:
    """Return a set-up of a transformers trainer in its favour; `autocast` multiplies fp32 weights in bf16."""
    options = {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": max(1, rows_per_step // batch_size),
        "gradient_checkpointing": False,
        "bf16": autocast,
        "train_sampling_strategy": "sequential",  # as sorted
        "model_init_kwargs": {"dtype": weights, "attn_implementation": "sdpa"},
    }
    name = f"{weights} weights{' with bf16 autocast' if autocast else ''}, batch {batch_size}, sorted, no checkpointing"
    return Setup(name, options, sort=True)


def tune(
    rate_of: Callable[[Setup], float], batch_sizes: Sequence[int], rows_per_step: int, native_bf16: bool, unit: str
) -> tuple[Setup, dict[str, float]]:
    """Return the peer's best set-up and the rate of each that was tried; number formats first, then batch sizes."""
    formats = [("float32", False), *([("bfloat16", False), ("float32", True)] if native_bf16 else [])]
    rates: dict[str, float] = {}

    def rate(setup: Setup) -> float:
        if setup.name not in rates:
            rates[setup.name] = rate_of(setup)
            say(f"sweep, peer, {setup.name}: {rates[setup.name]:.4f} {unit}")
        return rates[setup.name]

    first = FORMAT_BATCH if FORMAT_BATCH in batch_sizes else batch_sizes[-1]
    best_format = max(formats, key=lambda f: rate(tuned_setup(first, rows_per_step, *f)))
    best = max((tuned_setup(size, rows_per_step, *best_format) for size in batch_sizes), key=rate)
    return best, rates


@dataclass(frozen=True, slots=True)
class Contest:
    """Rates of both sides, repetition by repetition, on the same rows."""

    name: str
    n_rows: int
    ours: tuple[float, ...]
    peer: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median ratio of a repetition."""
        return paired_ratio(self.ours, self.peer)[0]

    def record(self) -> dict[str, Any]:
        """Return what the last line says of it."""
        ratio, low, high = paired_ratio(self.ours, self.peer)
        return {
            "setup": self.name,
            "rows": self.n_rows,
            "ours": self.ours,
            "peer": self.peer,
            "ratio": ratio,
            "ratio_range": [low, high],
        }


def contest(
    name: str,
    n_rows: int,
    ours: Callable[[], float],
    peer: Callable[[], float],
    repetitions: int,
    peak: MatrixPeak,
    unit: str,
) -> Contest:
    """Run both sides in turn, the order swapped every time, so that a machine's slow minutes hit both."""
    sides = {"Accord": ours, f"peer, {name}": peer}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in list(sides)[:: 1 if repetition % 2 == 0 else -1]:
            rates[side].append(sides[side]())
            say(f"{repetition + 1}/{repetitions}, {n_rows} rows, {side}: {rates[side][-1]:.4f} {unit}")
        peak.measure()
    first, second = rates.values()
    return Contest(name, n_rows, tuple(first), tuple(second))
