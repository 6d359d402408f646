"""What the benchmarks share: the data folder, the processor's name, its matrix peak, and how a result is printed.

The limit that a result is held against is the best matrix product that this machine showed in the same run, in the number
format that Accord ran in: the starter's own products at several numbers of rows, and a square one, which most processors do best.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.models.peak import GPU_SHAPES
from accord.models.projection import Projection

DATA_VARIABLE = "ACCORD_TEST_DATA"
REPEATS = 5
# Rows, inputs, outputs: the starter's maps, its head, and a square.
SHAPES = (
    (512, 576, 1536),
    (1024, 576, 1536),
    (2048, 576, 1536),
    (4096, 576, 1536),
    (2048, 1536, 576),
    (2048, 576, 576),
    (512, 576, 49152),
    (2048, 2048, 2048),
)


def data_folder() -> Path:
    """Return the folder of public data that the environment names; end the process with code 2 where it names none."""
    folder = os.environ.get(DATA_VARIABLE, "")
    if not folder or not Path(folder).is_dir():
        print(
            f"{DATA_VARIABLE} names no folder ({folder or 'unset'}); docs/data.md says what belongs there",
            file=sys.stderr,
        )
        raise SystemExit(2)
    return Path(folder)


def processor(device: torch.device) -> str:
    """Return the name of what computes, with the number of threads on a CPU."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


class MatrixPeak:
    """The best rate of any product of `SHAPES` so far, through PyTorch's own library and through oneDNN's packed weights.

    Measured again between repetitions: a noisy machine's best moment is its limit.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, repeats: int = REPEATS) -> None:
        self._dtype, self._device, self._repeats = dtype, device, repeats
        self.flops: dict[str, float] = {}
        self.measure()

    @property
    def best(self) -> float:
        """FLOP/s of the best product."""
        return max(self.flops.values())

    @property
    def gflops(self) -> dict[str, float]:
        """The best rate of each product in GFLOP/s, the best first."""
        return {name: rate / 1e9 for name, rate in sorted(self.flops.items(), key=lambda item: -item[1])}

    @torch.no_grad()
    def measure(self) -> None:
        """Time every product again and keep the best of each."""
        generator = torch.Generator().manual_seed(0)
        for rows, n_in, n_out in SHAPES if self._device.type == "cpu" else (*SHAPES, *GPU_SHAPES):
            x = torch.randn(rows, n_in, generator=generator).to(self._device, self._dtype)
            weight = torch.randn(n_out, n_in, generator=generator).to(self._device, self._dtype)
            projection = Projection(weight)
            self._time(f"plain {rows}x{n_in}x{n_out}", partial(F.linear, x, weight), 2 * rows * n_in * n_out)
            # Elsewhere than on the CPU, where weights are not packed, it would be the same product again.
            if projection.packs:
                self._time(f"packed {rows}x{n_in}x{n_out}", partial(projection.forward, x), 2 * rows * n_in * n_out)

    def _time(self, name: str, product: Callable[[], Tensor], flop: int) -> None:
        product()  # the first call finds its kernel
        for _ in range(self._repeats):
            began = clock(self._device)
            product()
            self.flops[name] = max(self.flops.get(name, 0.0), flop / (clock(self._device) - began))

    def __str__(self) -> str:
        name, rate = next(iter(self.gflops.items()))
        return f"{rate:.0f} GFLOP/s ({name}, {self._dtype}, the best of {len(self.flops)} products)"


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(line, flush=True)


def clock(device: torch.device) -> float:
    """Return the time in seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@torch.no_grad()
def bandwidth(device: torch.device, mebibytes: int = 512) -> float:
    """Return the bytes a second at which memory beyond all caches is read, the best of five."""
    values = torch.ones(mebibytes << 18, device=device)
    best = 0.0
    for _ in range(REPEATS + 1):
        began = clock(device)
        values.sum()
        best = max(best, values.numel() * values.element_size() / (clock(device) - began))
    return best


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, least and greatest of the ratios within one repetition each (noise that lasts hits both)."""
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    return statistics.median(ratios), min(ratios), max(ratios)


def finish(result: Mapping[str, Any]) -> None:
    """Print the result as the last line, with numbers at 4 significant figures."""
    say(json.dumps(_rounded(result)))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
