"""What the benchmarks share: the data folder, the processor's name, its matrix peak, and how a result is printed.

The limit that a result is held against is the best matrix product that this machine showed in the same run, in the number
format that Accord ran in: [2048x576] by [576x1536], one layer's width of the starter model.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.models.projection import Projection

DATA_VARIABLE = "ACCORD_TEST_DATA"
PEAK_ROWS, PEAK_IN, PEAK_OUT = 2048, 576, 1536


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
    """The best rate of one matrix product so far, through PyTorch's own library and through oneDNN's packed weights.

    Measured again between repetitions: a noisy machine's best moment is its limit.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, seconds: float) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(PEAK_ROWS, PEAK_IN, generator=generator).to(device, dtype)
        weight = torch.randn(PEAK_OUT, PEAK_IN, generator=generator).to(device, dtype)
        projection = Projection(weight)
        # On the CPU the plain fp32 product is MKL's; where weights cannot be packed both names are the same product.
        self._products: dict[str, Callable[[], Tensor]] = {
            "plain": lambda: F.linear(x, weight),
            "packed": lambda: projection.forward(x),
        }
        self._device, self._seconds = device, seconds
        self.flops: dict[str, float] = dict.fromkeys(self._products, 0.0)
        self.measure()

    @property
    def best(self) -> float:
        """FLOP/s of the best product."""
        return max(self.flops.values())

    @torch.no_grad()
    def measure(self) -> None:
        """Time both products again and keep the best of each."""
        for name, product in self._products.items():
            product()
            end = time.perf_counter() + self._seconds
            while time.perf_counter() < end:
                began = time.perf_counter()
                product()
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
                rate = 2 * PEAK_ROWS * PEAK_IN * PEAK_OUT / (time.perf_counter() - began)
                self.flops[name] = max(self.flops[name], rate)

    def __str__(self) -> str:
        return ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in self.flops.items())


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(line, flush=True)


def clock(device: torch.device) -> float:
    """Return the time in seconds, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


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
