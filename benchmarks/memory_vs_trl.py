"""Peak memory of DPO with LoRA: Accord against TRL's DPOTrainer, each measurement in a process of its own, on the same token ids.

Reported of each process: the resident size before training begins (imports, model, adapters, rows), the greatest until its end
(the kernel's `VmHWM`), and what lies between. On a few short rows the greatest is that of loading, and is marked so. Neither
process holds anything of the other side but the starter's files. TRL runs tuned for speed: bf16 weights where the processor has
them, no gradient checkpointing, rows sorted by length, at the batch size that was fastest here. The sweep's other batch sizes are
printed, the least hungry too.

Run: `python benchmarks/memory_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpo_accord import VARIANTS, train, trainee_of
from hh_pairs import MAX_LENGTH, RANK, choose_pairs
from machine import data_folder, finish, paired_ratio, processor, say

from accord.models.chat import ChatFormat
from accord.models.load import load_tokenizer, resolve
from accord.models.precision import has_native_bf16, pick_device
from accord.models.tree import Tree

MOST_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MiB: resident before training, the greatest until then, the greatest until its end; and pairs a second."""

    loaded: float
    loading_peak: float
    peak: float
    rate: float

    @property
    def increase(self) -> float:
        """What training took beyond the loaded model."""
        return self.peak - self.loaded


def status_mib(name: str) -> float:
    """Return a size that the kernel keeps of this process: `VmRSS` is resident now, `VmHWM` the greatest so far.

    Not `ru_maxrss`: that begins, in a process that another has started, with the greatest size of the other.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def accord_side(trees: Sequence[Tree]) -> Memory:
    """Train with Accord."""
    trainee = trainee_of(VARIANTS["inside"])
    loaded, loading_peak = status_mib("VmRSS"), status_mib("VmHWM")
    seconds = train(trainee, trees, pick_device())
    return Memory(loaded, loading_peak, status_mib("VmHWM"), len(trees) / seconds)


def trl_side(trees: Sequence[Tree], batch_size: int, targets: Sequence[str]) -> Memory:
    """Train with TRL."""
    from contest import BF16, FP32, quiet, time_trainer, tuned_setup
    from dpo_trl import give, make_trainer

    quiet()
    setup = tuned_setup(batch_size, BF16 if has_native_bf16(pick_device()) else FP32)
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(resolve("starter"), VARIANTS["inside"], targets, setup, output)
        give(trainer, VARIANTS["inside"], setup, trees)
        loaded, loading_peak = status_mib("VmRSS"), status_mib("VmHWM")
        rate = time_trainer(trainer, len(trees), pick_device())
        return Memory(loaded, loading_peak, status_mib("VmHWM"), rate)


def measure(side: str, rows: Path, batch_size: int = 0) -> Memory:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--rows-file", str(rows), "--batch-size", str(batch_size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} ended with code {done.returncode}:\n{done.stderr[-2000:]}")
    found = Memory(**json.loads(done.stdout.strip().splitlines()[-1]))
    name = side if side == "accord" else f"{side}, batch {batch_size}"
    at_peak = "" if found.peak > found.loading_peak else " (that of loading)"
    say(f"{name}: loaded {found.loaded:.0f} MiB, peak {found.peak:.0f} MiB{at_peak}, {found.rate:.3f} pairs/s")
    return found


def child(options: argparse.Namespace) -> None:
    """Train one side on the rows of a file, and print what it took."""
    kept = json.loads(Path(options.rows_file).read_text())
    trees = [Tree(tuple(prompt), tuple(map(tuple, answers))) for prompt, answers in kept["trees"]]
    found = accord_side(trees) if options.side == "accord" else trl_side(trees, options.batch_size, kept["targets"])
    say(json.dumps(asdict(found)))


def write_rows(path: Path, n_pairs: int, max_length: int) -> None:
    """Write what both sides train on, and the names of the maps that are adapted."""
    pairs = choose_pairs(data_folder(), ChatFormat(load_tokenizer("starter")), n_pairs, max_length)
    model: Any = trainee_of(VARIANTS["inside"]).model
    trees = [(t.prompt, t.answers) for t in pairs.trees]
    path.write_text(json.dumps({"trees": trees, "targets": sorted(model.peft_config["default"].target_modules)}))


def main() -> None:
    """Find TRL's fastest batch size, then measure both sides in turn and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="2 short pairs, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="tried for TRL tuned")
    parser.add_argument("--side", choices=["accord", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--rows-file", help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        child(options)
        return
    if options.quick:
        options.pairs, options.repetitions, options.batch_sizes = 2, 1, [2]
    say(processor(pick_device()))
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        write_rows(rows, options.pairs, 80 if options.quick else MAX_LENGTH)
        sweep = {size: measure("trl", rows, size) for size in options.batch_sizes}
        fastest = max(sweep, key=lambda size: sweep[size].rate)
        ours: list[Memory] = []
        peer: list[Memory] = []
        for _ in range(options.repetitions):
            ours.append(measure("accord", rows))
            peer.append(measure("trl", rows, fastest))
    report(options, fastest, sweep, ours, peer)


def report(
    options: argparse.Namespace, fastest: int, sweep: dict[int, Memory], ours: list[Memory], peer: list[Memory]
) -> None:
    """Print the result."""
    ratio, low, high = paired_ratio([m.peak for m in ours], [m.peak for m in peer])
    increase = paired_ratio([m.increase for m in ours], [m.increase for m in peer])[0]
    say(
        f"peak: {ratio:.2f} of TRL's at batch {fastest} [{low:.2f} to {high:.2f}]; beyond the loaded model: {increase:.2f}"
    )
    finish(
        {
            "work": f"DPO, LoRA r{RANK} on all layers, {options.pairs} hh-rlhf pairs, peak memory",
            "ours": statistics.median(m.peak for m in ours),
            "peer": statistics.median(m.peak for m in peer),
            "unit": "MiB",
            "ratio": ratio,
            "ratio_range": [low, high],
            "ratio_beyond_loaded": increase,
            "share_of_limit": None,
            "processor": processor(pick_device()),
            "quick": options.quick,
            "met": ratio <= MOST_SHARE,
            "loaded": {
                side: statistics.median(m.loaded for m in all_) for side, all_ in (("ours", ours), ("peer", peer))
            },
            "loading_peak": {
                side: statistics.median(m.loading_peak for m in all_) for side, all_ in (("ours", ours), ("peer", peer))
            },
            "peer_batch_size": fastest,
            "peer_sweep": {str(size): asdict(m) for size, m in sweep.items()},
            "peer_least_peak": min(m.peak for m in sweep.values()),
        }
    )


if __name__ == "__main__":
    main()
