"""Multiple choice by likelihood: Accord's `LocalCompleter.logps` against lm-eval's Hugging Face backend, in one process.

Short questions are the starter's capability set; long ones are HHH comparisons and BBQ. Both sides are given the same token ids
of prompt and choice and the same number format; Accord also tokenises within its time, since an evaluation does. lm-eval is tuned
in its favour: the best batch size of a sweep on the same items; its sorting by length and its cache of one-token continuations
stay on. Both sides' likelihoods are compared: in fp32 to within 1e-3 nats a choice, in bf16 to within 0.25 nats a token, and the
choice taken must be the same wherever the two likeliest are further apart than twice the differences found.

Run: `python benchmarks/choices_vs_lm_eval.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from machine import clock, data_folder, finish, paired_ratio, processor, say
from transformers.utils import logging as hf_logging

from accord.evals.suite import Question, limited
from accord.evals.suites.bbq import Bbq
from accord.evals.suites.capability import Capability
from accord.evals.suites.hhh import Hhh
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.local import LocalCompleter
from accord.models.precision import Precision, pick_device
from accord.policy import load_policy
from accord.starter import policy_path

LEAST_RATIO = 3.0
BATCH_SIZES = (1, 4, 8, 16, 32, 64)
# Largest difference of a log-likelihood: in fp32 of a choice, in bf16 of a choice a token. A bf16 logit between 16 and 32 is a
# multiple of 1/8, and each side rounds its own.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.25}
Logps = list[tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Measured:
    """One side's likelihoods, and how many questions a second it answered."""

    logps: Logps
    rate: float


def questions(n: int) -> dict[str, list[Question]]:
    """Return short and long questions, at most `n` of each source (0: all)."""
    folder, policy = data_folder(), load_policy(policy_path())
    hhh = Hhh(str(folder / "cai" / "hhh-219.jsonl")).items(policy)
    bbq = Bbq(str(folder / "bbq" / "age_religion_400.jsonl")).items(policy)
    sets = {"short": [Capability().items(policy)], "long": [hhh, bbq]}
    return {
        name: [q for items in sources for q in limited(items, n) if isinstance(q, Question)]
        for name, sources in sets.items()
    }


def run_accord(completer: LocalCompleter, asked: Sequence[Question], device: torch.device) -> Measured:
    """Ask as an evaluation does: every question at once, what is awaited together computed together."""

    async def all_of_them() -> Logps:
        return list(await asyncio.gather(*(completer.logps(q.messages, q.choices) for q in asked)))

    began = clock(device)
    logps = asyncio.run(all_of_them())
    return Measured(logps, len(asked) / (clock(device) - began))


def run_peer(peer: Any, chat: ChatFormat, asked: Sequence[Question], batch_size: int, device: torch.device) -> Measured:
    """Ask lm-eval for the same prompts' and choices' ids; its own tokenising is left out of its time."""
    requests = [
        ((str(i), choice), list(chat.prompt(q.messages)), list(chat.opening(choice)))
        for i, q in enumerate(asked)
        for choice in q.choices
    ]
    peer.batch_size_per_gpu = batch_size
    began = clock(device)
    flat = iter([float(logp) for logp, _ in peer._loglikelihood_tokens(requests, disable_tqdm=True)])
    seconds = clock(device) - began
    return Measured([tuple(next(flat) for _ in q.choices) for q in asked], len(asked) / seconds)


def check(
    ours: Logps, peer: Logps, asked: Sequence[Question], chat: ChatFormat, precision: Precision
) -> dict[str, Any]:
    """Return the largest differences; end the process where they exceed the tolerance."""
    worst = worst_a_token = 0.0
    clear = same = 0
    for q, a, b in zip(asked, ours, peer, strict=True):
        lengths = [len(chat.opening(choice)) for choice in q.choices]
        differences = [abs(x - y) for x, y in zip(a, b, strict=True)]
        worst = max(worst, *differences)
        worst_a_token = max(worst_a_token, *(d / n for d, n in zip(differences, lengths, strict=True)))
        first, second = sorted(b, reverse=True)[:2]
        if first - second > 2 * max(differences):
            clear += 1
            same += a.index(max(a)) == b.index(first)
    found = worst if precision == "fp32" else worst_a_token
    say(
        f"{precision}: log-likelihoods differ by at most {worst:.2g}, {worst_a_token:.2g} a token; {same} of {clear} choices alike"
    )
    if found > TOLERANCE[precision] or same < clear:
        raise SystemExit(f"{precision}: the two sides do not agree: {found:.3g} is above {TOLERANCE[precision]}")
    return {
        "largest_difference": worst,
        "largest_difference_a_token": worst_a_token,
        "clear_choices_alike": [same, clear],
    }


def contest(
    completer: LocalCompleter,
    peer: Any,
    asked: Sequence[Question],
    sizes: Sequence[int],
    repetitions: int,
    precision: Precision,
) -> dict[str, Any]:
    """Tune the peer, hold both sides' likelihoods against each other, and run them in turn, the order swapped every time."""
    chat, device = completer.white_box.chat, completer.white_box.loaded.device
    sweep = {size: run_peer(peer, chat, asked, size, device) for size in sizes}
    best = max(sweep, key=lambda size: sweep[size].rate)
    say(
        f"{precision}, {len(asked)} questions; lm-eval by batch size: { {n: round(m.rate, 3) for n, m in sweep.items()} }"
    )
    agreement = check(run_accord(completer, asked, device).logps, sweep[best].logps, asked, chat, precision)
    rates: dict[str, list[float]] = {"Accord": [], "lm-eval": []}
    for repetition in range(repetitions):
        for side in list(rates)[:: 1 if repetition % 2 == 0 else -1]:
            ours = side == "Accord"
            measured = run_accord(completer, asked, device) if ours else run_peer(peer, chat, asked, best, device)
            rates[side].append(measured.rate)
        say(
            f"{repetition + 1}/{repetitions}: {', '.join(f'{side} {r[-1]:.2f}' for side, r in rates.items())} questions/s"
        )
    ratio, low, high = paired_ratio(*rates.values())
    return {
        "precision": precision, "n": len(asked), "ours": statistics.median(rates["Accord"]),
        "peer": statistics.median(rates["lm-eval"]),
        "ratio": ratio, "ratio_range": [low, high], "batch_size": best, **agreement,
    }  # fmt: skip


def main() -> None:
    """Run a contest for each number format and kind of question; the last line is JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a few questions, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--questions", type=int, default=0, help="at most so many of each source; 0 for all")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    if options.quick:
        options.questions, options.repetitions = 2, 1
    warnings.filterwarnings("ignore")
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    from lm_eval import __version__ as lm_eval_version
    from lm_eval.models.huggingface import HFLM

    device, sets = pick_device(), questions(options.questions)
    contests: list[dict[str, Any]] = []
    for precision in TOLERANCE:
        loaded = load_model("starter", precision)
        # A model of its own: Accord's is packed while its completer is open.
        plain = transformers.AutoModelForCausalLM.from_pretrained(
            loaded.folder, dtype=loaded.model.dtype, attn_implementation="sdpa"
        )
        peer = HFLM(pretrained=plain.to(device).eval(), tokenizer=loaded.tokenizer, batch_size=1)
        completer = LocalCompleter(loaded)
        sizes = [4] if options.quick else BATCH_SIZES
        for name, asked in sets.items():
            contests.append(
                {"questions": name} | contest(completer, peer, asked, sizes, options.repetitions, precision)
            )
        asyncio.run(completer.close())
    least = min(contests, key=lambda found: float(found["ratio"]))
    finish(
        {
            "work": "multiple choice by likelihood, the least of all contests", "ours": least["ours"], "peer": least["peer"],
            "unit": "questions/s", "ratio": least["ratio"], "share_of_limit": None, "processor": processor(device),
            "met": least["ratio"] >= LEAST_RATIO, "asked": {"ratio": LEAST_RATIO}, "contests": contests,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "lm_eval": lm_eval_version},
        }
    )  # fmt: skip


if __name__ == "__main__":
    main()
