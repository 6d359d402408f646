"""Rollouts of real prompts: Accord's `generate` against `generate` of transformers, in one process.

256 prompts (harmful, borderline and ordinary ones, as many of each source), the starter model, at most 64 new tokens and the
real end of the turn, once sampled at temperature 1 and once greedy. Reading the prompt counts on both sides, and so do all
tokens up to and including the end. The peer is tuned in its favour: prompts sorted by length, left-padded, its best batch
size and cache found by a sweep. Both sides run in the format that is faster on the processor: bf16 where it has it, else fp32.

Greedy outputs are compared in fp32. Where they part, both tokens' logits are looked up: a tie within rounding is no fault.

Needed work is counted without attention and norms: 2 FLOP a weight and token (the prompts' common prefix once), the head where
a token is drawn.

Run: `python benchmarks/rollout_vs_generate.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import csv
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from machine import REPEATS, MatrixPeak, clock, data_folder, finish, paired_ratio, processor, say
from torch import Tensor, nn
from transformers.utils import logging as hf_logging

from accord.data import read_rows
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.precision import pick_device
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.tree import decoder_of, head_weight
from accord.types import Message

SEED = 0
MAX_PROMPT_TOKENS = 512  # one very long prompt would pad a whole batch of the peer's
LEAST_RATIO, LEAST_IDENTICAL_SHARE, TIE_NATS = 1.5, 0.95, 1e-3
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Setup:
    """How the peer is run."""

    batch_size: int
    cache: str = "dynamic"

    def __str__(self) -> str:
        return f"batch {self.batch_size}, {self.cache} cache"


@dataclass(frozen=True, slots=True)
class Run:
    """The answers, in the prompts' order, and how long all of them took."""

    answers: tuple[Ids, ...]
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.n_tokens / self.seconds

    @property
    def n_tokens(self) -> int:
        """Tokens of all answers, their ends included."""
        return sum(map(len, self.answers))


def choose_prompts(folder: Path, chat: ChatFormat, n_prompts: int, max_tokens: int) -> list[Ids]:
    """Return a fixed random choice of prompts in chat format, as many from each of four public sets."""
    with (folder / "xstest" / "prompts.csv").open(encoding="utf-8", newline="") as file:
        xstest = [row["prompt"] for row in csv.DictReader(file)]
    alpaca = [folder / "alpaca-eval" / f"helpful.{name}.jsonl.gz" for name in ("dev", "train")]
    sources = [
        _prompts([folder / "advbench" / "goals_260.jsonl"]),
        xstest,
        _prompts(sorted((folder / "do-not-answer").glob("*.jsonl"))),
        _prompts(alpaca),
    ]
    rng = random.Random(SEED)
    chosen: list[Ids] = []
    for source in sources:
        rng.shuffle(source)
        ids = (chat.prompt([Message("user", text)]) for text in source)
        short = (i for i in ids if len(i) <= max_tokens)
        chosen += [next(short) for _ in range(n_prompts // len(sources))]
    return chosen


def _prompts(paths: Sequence[Path]) -> list[str]:
    return [str(row.data["prompt"]) for path in paths for row in read_rows(path)]


def run_accord(model: nn.Module, prompts: Sequence[Ids], end_ids: frozenset[int], sampling: Sampling) -> Run:
    """Generate with Accord's defaults; packing the weights is inside the measured time."""
    device = next(model.parameters()).device
    keys = [str(i) for i in range(len(prompts))]
    began = clock(device)
    rollouts = generate(model, prompts, keys, end_ids, sampling)
    return Run(tuple(r.ids for r in rollouts), clock(device) - began)


@torch.inference_mode()
def run_peer(model: Any, prompts: Sequence[Ids], end_ids: frozenset[int], sampling: Sampling, setup: Setup) -> Run:
    """Generate with transformers, the longest prompts first, each batch padded on the left to its own longest."""
    device = next(model.parameters()).device
    pad = min(end_ids)
    if sampling.temperature:
        how: dict[str, Any] = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    else:
        how = {"do_sample": False}
    if setup.cache != "dynamic":
        how["cache_implementation"] = setup.cache
    torch.manual_seed(sampling.seed)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Ids] = {}
    began = clock(device)
    for start in range(0, len(order), setup.batch_size):
        group = order[start : start + setup.batch_size]
        width = max(len(prompts[i]) for i in group)
        ids = torch.tensor([[pad] * (width - len(prompts[i])) + list(prompts[i]) for i in group], device=device)
        real = torch.tensor([[0] * (width - len(prompts[i])) + [1] * len(prompts[i]) for i in group], device=device)
        output = model.generate(
            input_ids=ids,
            attention_mask=real,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=sorted(end_ids),
            pad_token_id=pad,
            **how,
        )
        rows = output[:, width:].tolist()
        answers.update({i: _up_to_end(row, end_ids) for i, row in zip(group, rows, strict=True)})
    return Run(tuple(answers[i] for i in range(len(prompts))), clock(device) - began)


def _up_to_end(ids: Sequence[int], end_ids: frozenset[int]) -> Ids:
    end = next((n for n, i in enumerate(ids, 1) if i in end_ids), len(ids))
    return tuple(ids[:end])


def tune_peer(
    model: Any, prompts: Sequence[Ids], end_ids: frozenset[int], sampling: Sampling, batch_sizes: Sequence[int]
) -> tuple[Setup, dict[str, float]]:
    """Return the peer's best set-up and tokens a second of each that was tried: batch sizes first, then the other cache."""
    rates: dict[Setup, float] = {}

    def rate(setup: Setup) -> float:
        if setup not in rates:
            rates[setup] = run_peer(model, prompts, end_ids, sampling, setup).rate
            say(f"sweep, {len(prompts)} prompts, transformers, {setup}: {rates[setup]:.1f} tokens/s")
        return rates[setup]

    size = max((Setup(size) for size in batch_sizes), key=rate).batch_size
    best = max((Setup(size, cache) for cache in ("dynamic", "static")), key=rate)
    return best, {str(setup): value for setup, value in rates.items()}


def shared_start(rows: Sequence[Ids]) -> int:
    """Return how many first tokens all rows have in common."""
    least, greatest = min(rows), max(rows)  # whatever these two share, all do
    return next((n for n, (a, b) in enumerate(zip(least, greatest, strict=False)) if a != b), len(least))


def needed_flop(model: nn.Module, prompts: Sequence[Ids], answers: Sequence[Ids]) -> float:
    """Return the work that cannot be avoided (see the module's docstring); an answer's last token is not read again."""
    layers = decoder_of(model).layers
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear))
    n_shared = shared_start(prompts)
    n_read = n_shared + sum(len(p) - n_shared for p in prompts) + sum(len(a) - 1 for a in answers)
    return 2.0 * linear * n_read + 2.0 * head_weight(model).numel() * sum(map(len, answers))


@torch.inference_mode()
def gap_at_parting(model: Any, prompt: Ids, ours: Ids, peer: Ids) -> float:
    """Return how far apart, in nats, the two tokens' logits are where two greedy answers part."""
    n = shared_start([ours, peer])
    ids = torch.tensor([[*prompt, *ours[:n]]], device=next(model.parameters()).device)
    logits: Tensor = model(input_ids=ids, logits_to_keep=1).logits[0, -1].float()
    return abs(float(logits[ours[n]] - logits[peer[n]]))


def main() -> None:
    """Tune the peer, measure both sides in turn, compare the greedy answers, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="8 short prompts, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--prompts", type=int, default=256, help="a multiple of 4")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="tried for the peer")
    options = parser.parse_args()
    folder = data_folder()
    max_new_tokens, max_prompt_tokens = 64, MAX_PROMPT_TOKENS
    if options.quick:
        options.prompts, options.repetitions, options.batch_sizes = 8, 1, [4, 8]
        max_new_tokens, max_prompt_tokens = 6, 64
    hf_logging.set_verbosity_error()

    device = pick_device()
    loaded = load_model("starter")
    model: Any = loaded.model
    chat = ChatFormat(loaded.tokenizer)
    prompts = choose_prompts(folder, chat, options.prompts, max_prompt_tokens)
    lengths = sorted(map(len, prompts))
    dtype = str(model.dtype).removeprefix("torch.")
    peak = MatrixPeak(model.dtype, device, repeats=1 if options.quick else REPEATS)
    say(
        f"{processor(device)}; torch {torch.__version__}, transformers {transformers.__version__}, both sides in {dtype}"
    )
    say(f"matrix peak so far: {peak}")
    say(
        f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens (median {lengths[len(lengths) // 2]}), of which all "
        f"share the first {shared_start(prompts)}"
    )

    modes = {
        "sampled": Sampling(max_new_tokens, temperature=1.0, seed=SEED),
        "greedy": Sampling(max_new_tokens, temperature=0.0, seed=SEED),
    }
    by_length = sorted(prompts, key=len)
    n_sweep = min(len(prompts), max(options.batch_sizes))
    some = [by_length[(2 * k + 1) * len(by_length) // (2 * n_sweep)] for k in range(n_sweep)]
    setup, sweep = tune_peer(model, some, chat.end_ids, modes["sampled"], options.batch_sizes)
    say(f"transformers tuned: {setup}")

    ours: dict[str, list[Run]] = {mode: [] for mode in modes}
    peer: dict[str, list[Run]] = {mode: [] for mode in modes}
    for repetition in range(options.repetitions):
        for mode, sampling in modes.items():
            for side in ("Accord", "transformers")[:: 1 if repetition % 2 == 0 else -1]:
                if side == "Accord":
                    run = run_accord(model, prompts, chat.end_ids, sampling)
                    ours[mode].append(run)
                else:
                    run = run_peer(model, prompts, chat.end_ids, sampling, setup)
                    peer[mode].append(run)
                mean = run.n_tokens / len(prompts)
                say(
                    f"{repetition + 1}/{options.repetitions} {mode}, {side}: {run.rate:.1f} tokens/s "
                    f"({run.n_tokens} tokens, {mean:.1f} a prompt)"
                )
        peak.measure()

    if model.dtype == torch.float32:
        one, other = ours["greedy"][0].answers, peer["greedy"][0].answers
    else:
        model = load_model("starter", "fp32").model
        one = run_accord(model, prompts, chat.end_ids, modes["greedy"]).answers
        other = run_peer(model, prompts, chat.end_ids, modes["greedy"], setup).answers
    parted = [(p, a, b) for p, a, b in zip(prompts, one, other, strict=True) if a != b]
    identical = 1 - len(parted) / len(prompts)
    gaps = [gap_at_parting(model, p, a, b) for p, a, b in parted]
    worst = max(gaps, default=0.0)
    say(
        f"greedy answers token for token identical: {identical:.1%}; where they part the logits differ by at most {worst:.1e}"
    )

    results: dict[str, dict[str, Any]] = {}
    for mode in modes:
        rates, peer_rates = ([run.rate for run in side[mode]] for side in (ours, peer))
        flop = needed_flop(loaded.model, prompts, ours[mode][0].answers)
        ratio, low, high = paired_ratio(rates, peer_rates)
        results[mode] = {
            "ours": statistics.median(rates),
            "peer": statistics.median(peer_rates),
            "ratio": ratio,
            "ratio_range": [low, high],
            "share_of_limit": flop / statistics.median(run.seconds for run in ours[mode]) / peak.best,
            "ours_runs": rates,
            "peer_runs": peer_rates,
            "tokens": [ours[mode][0].n_tokens, peer[mode][0].n_tokens],
        }
        say(
            f"{mode}: Accord is {ratio:.2f} x transformers ({low:.2f} to {high:.2f}) and reaches "
            f"{results[mode]['share_of_limit']:.0%} of the matrix peak ({peak}) on the work that is needed"
        )
    sampled = results["sampled"]
    finish(
        {
            "work": f"rollouts of {len(prompts)} real prompts, at most {max_new_tokens} tokens, temperature 1",
            "ours": sampled["ours"],
            "peer": sampled["peer"],
            "unit": "tokens/s",
            "ratio": sampled["ratio"],
            "share_of_limit": sampled["share_of_limit"],
            "processor": processor(device),
            "quick": options.quick,
            "met": sampled["ratio"] >= LEAST_RATIO and identical >= LEAST_IDENTICAL_SHARE,
            **results,
            "greedy_identical_share": identical,
            "greedy_parted": len(parted),
            "greedy_parted_at_ties": sum(gap <= TIE_NATS for gap in gaps),
            "greatest_gap_at_parting": worst,
            "peer_setup": str(setup),
            "sweep": sweep,
            "precision": dtype,
            "matrix_peak_gflops": peak.gflops,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        }
    )


if __name__ == "__main__":
    main()
