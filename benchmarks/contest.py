"""A peer tuned in its favour, and both sides measured in turn: what the benchmarks against TRL share."""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from datasets import Dataset, disable_progress_bars
from hh_pairs import ALPHA, RANK, ROWS_PER_STEP, extent_of_epoch
from machine import MatrixPeak, clock, finish, paired_ratio, processor, say
from peft import LoraConfig
from transformers import PrinterCallback
from transformers.utils import logging as hf_logging

from accord.models.tree import Tree
from accord.models.work import Extent

# The batch size at which number formats are compared.
FORMAT_BATCH = 4
Format = tuple[str, bool]  # of the weights, and whether autocast multiplies them in bf16
FP32: Format = ("float32", False)
BF16: Format = ("bfloat16", False)
AUTOCAST: Format = ("float32", True)
# One row of text, for trainers that tokenise what they are made with; the ids that both sides are given take its place.
TEXT: Mapping[str, Any] = {
    "prompt": [{"role": "user", "content": "a"}],
    "chosen": [{"role": "assistant", "content": "b"}],
    "rejected": [{"role": "assistant", "content": "c"}],
}


@dataclass(frozen=True, slots=True)
class Setup:
    """How the peer is run: what is set other than its defaults; `sort`: rows are given to it sorted by length."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sort: bool = False


DEFAULTS = Setup("defaults (bf16 autocast, gradient checkpointing, batch 8)")
# For a run in fp32, and where bf16 is emulated: there its speed would say more of that default than of the peer.
DEFAULTS_FP32 = Setup("defaults, but fp32", {"bf16": False})


def tuned_setup(batch_size: int, number_format: Format = FP32, rows_per_step: int = ROWS_PER_STEP) -> Setup:
    """Return a set-up of a transformers trainer in its favour, with the same rows an optimiser step as ours."""
    weights, autocast = number_format
    options = {
        "per_device_train_batch_size": batch_size,
        "gradient_accumulation_steps": max(1, rows_per_step // batch_size),
        "gradient_checkpointing": False,
        "bf16": autocast,
        "train_sampling_strategy": "sequential",  # as sorted
        "logging_steps": 1_000_000,
        "model_init_kwargs": {"dtype": weights, "attn_implementation": "sdpa"},
    }
    name = f"{weights} weights{' with bf16 autocast' if autocast else ''}, batch {batch_size}, sorted, no checkpointing"
    return Setup(name, options, sort=True)


def trainer_options(output: str) -> dict[str, Any]:
    """Return what every configuration of the peer is given: one pass, no files, no reports."""
    # The state is global: it would keep the last run's number format.
    AcceleratorState._reset_state(reset_partial_state=True)
    hf_logging.disable_progress_bar()
    return {
        "output_dir": output,
        "num_train_epochs": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),  # without it TRL's bf16 default is refused on a CPU
    }


def lora_config(targets: Sequence[str], task_type: str = "CAUSAL_LM", **more: Any) -> LoraConfig:
    """Return the peer's adapters: the same as ours."""
    return LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets), task_type=task_type, **more)


def time_trainer(trainer: Any, n_rows: int, device: torch.device) -> float:
    """Return rows a second of a trainer that holds its rows."""
    trainer.remove_callback(PrinterCallback)
    began = clock(device)
    trainer.train()
    return n_rows / (clock(device) - began)


def as_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Return rows as the peer reads them."""
    return Dataset.from_list([dict(row) for row in rows])


def quiet() -> None:
    """Silence progress bars, and warnings of TRL's use of transformers."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    disable_progress_bars()
    hf_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


def arguments(doc: str | None, rows: str, n_rows: int = 32) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks against the peer can be asked."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="2 short rows, once: shows that it runs, measures nothing")
    parser.add_argument(f"--{rows}", dest="rows", type=int, default=n_rows)
    parser.add_argument("--repetitions", type=int, default=5, help="of Accord and of TRL tuned, in turn")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="tried for TRL tuned")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the arguments; `--quick` overrides the others."""
    options = parser.parse_args()
    if options.quick:
        options.rows, options.repetitions, options.batch_sizes = 2, 1, [2]
    return options


def n_swept(device: torch.device, n_rows: int, batch_sizes: Sequence[int]) -> int:
    """Return on how many rows set-ups are compared: on a GPU, which is done with a few before it is warm, on all."""
    return n_rows if device.type == "cuda" else min(n_rows, max(batch_sizes))


def tune(
    rate_of: Callable[[Setup], float],
    batch_sizes: Sequence[int],
    tried: Sequence[Format],
    unit: str,
    more: Callable[[Format], Sequence[Setup]] = lambda _: (),
) -> tuple[Setup, dict[str, float]]:
    """Return the peer's best set-up and the rate of each that was tried: number formats, then batch sizes, then `more` set-ups.

    The rate of what does not fit into a GPU's memory is 0.
    """
    rates: dict[str, float] = {}

    def rate(setup: Setup) -> float:
        if setup.name not in rates:
            try:
                rates[setup.name] = rate_of(setup)
            except torch.OutOfMemoryError:
                rates[setup.name] = 0.0
            found = f"{rates[setup.name]:.4f} {unit}" if rates[setup.name] else "does not fit into memory"
            say(f"sweep, TRL, {setup.name}: {found}")
        return rates[setup.name]

    first = FORMAT_BATCH if FORMAT_BATCH in batch_sizes else batch_sizes[-1]
    # A lone format needs no comparison.
    best_format = max(tried, key=lambda f: rate(tuned_setup(first, f))) if len(tried) > 1 else tried[0]
    setups = [*(tuned_setup(size, best_format) for size in batch_sizes), *more(best_format)]
    return max(setups, key=rate), rates


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
    setup: Setup,
    n_rows: int,
    ours: Callable[[], float],
    peer: Callable[[Setup], float],
    repetitions: int,
    peak: MatrixPeak,
    unit: str,
) -> Contest:
    """Run both sides in turn, the order swapped every time, so that a machine's slow minutes hit both."""
    sides: dict[str, Callable[[], float]] = {"Accord": ours, f"TRL, {setup.name}": partial(peer, setup)}
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in list(sides)[:: 1 if repetition % 2 == 0 else -1]:
            rates[side].append(sides[side]())
            say(f"{repetition + 1}/{repetitions}, {n_rows} rows, {side}: {rates[side][-1]:.4f} {unit}")
        peak.measure()
    first, second = rates.values()
    return Contest(f"TRL {setup.name}", n_rows, tuple(first), tuple(second))


def contests(
    best: Setup,
    native_bf16: bool,
    n_rows: int,
    ours: Callable[[], float],
    peer: Callable[[Setup], float],
    repetitions: int,
    peak: MatrixPeak,
    unit: str,
) -> tuple[Contest, Contest]:
    """Measure against the tuned peer, and once against its defaults."""
    defaults = DEFAULTS if native_bf16 else DEFAULTS_FP32
    return (
        contest(best, n_rows, ours, peer, repetitions, peak, unit),
        contest(defaults, n_rows, ours, peer, 1, peak, unit),
    )


def formats(native_bf16: bool, quick: bool) -> list[Format]:
    """Return the number formats that the peer is tried in."""
    if not native_bf16:
        return [FP32]
    return [BF16] if quick else [BF16, FP32, AUTOCAST]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a benchmark: times the tuned peer's rate, share of the limit; None where a number is only printed."""

    ratio: float | None
    share: float | None


def conclude(
    work: str,
    asked: Asked,
    tuned: Contest,
    defaults: Contest,
    trees: Sequence[Tree],
    needed: Callable[[Extent], float],
    peak: MatrixPeak,
    unit: str,
    device: torch.device,
    more: Mapping[str, Any],
) -> None:
    """Say what was found and print the last line. The share is of what the matrix peak would do of the needed work.

    What all prompts begin with, a system prompt say, is needed once a step; the last line also has the share that comes out where
    it is counted in every row.
    """
    ours = statistics.median(tuned.ours)
    flop_per_row = needed(extent_of_epoch(trees)) / len(trees)
    flop_apart = needed(extent_of_epoch(trees, rows_per_step=1)) / len(trees)
    share, limit = ours * flop_per_row / peak.best, peak.best / flop_per_row
    for each in (tuned, defaults):
        say(f"Accord is {each.ratio:.2f} x {each.name}")
    say(
        f"limit {limit:.3f} {unit}: {flop_per_row / 1e9:.1f} GFLOP needed a row, matrix peak {peak}; Accord reaches {share:.1%}"
    )
    finish(
        {
            "work": work,
            "ours": ours,
            "peer": statistics.median(tuned.peer),
            "unit": unit,
            "ratio": tuned.ratio,
            "ratio_defaults": defaults.ratio,
            "share_of_limit": share,
            "limit": limit,
            "processor": processor(device),
            "met": (asked.ratio is None or tuned.ratio >= asked.ratio)
            and (asked.share is None or share >= asked.share),
            "asked": {"ratio": asked.ratio, "share_of_limit": asked.share},
            "needed_gflop_per_row": flop_per_row / 1e9,
            "share_of_limit_beginnings_counted_apart": ours * flop_apart / peak.best,
            "contests": [each.record() for each in (tuned, defaults)],
            "matrix_peak_gflops": peak.gflops,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
            **more,
        }
    )
