"""Judging by label probabilities under a shared rubric, against generating a verdict, and against the same without sharing.

One rubric (the starter policy's, over all hazards), answers that people scored, the starter model as the judge, one process. Peers
read the same token ids: transformers' `generate` writes one word (2 tokens: the word and its end), or a sentence of reasoning (40
tokens, of which the verdict would be the last). They are tuned in their favour: sorted by length, left-padded, the best batch size
of a sweep. The same label scoring without sharing lays each prompt out on its own, and is otherwise ours.

Needed work is counted without attention and norms: 2 FLOP a weight and token, the rubric once, the head once a transcript.

Run: `python benchmarks/judge_speed.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from machine import REPEATS, MatrixPeak, clock, data_folder, finish, paired_ratio, processor, say
from torch import nn
from transformers.utils import logging as hf_logging

from accord.data import read_rows
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, load_model
from accord.models.projection import Projection
from accord.models.tree import (
    Tree,
    answer_states,
    collate_apart,
    common_prefix,
    decoder_of,
    head_weight,
    micro_batches_apart,
)
from accord.policy import load_policy
from accord.policy.rubric import NO, YES, rubric
from accord.scorers.label_tokens import JUDGE_TOKENS, forms_of, label_shares, ready
from accord.scorers.quoting import quoted
from accord.scorers.rubric import rubric_prompt
from accord.starter import policy_path
from accord.types import Message, Transcript

LABELS = (forms_of(YES), forms_of(NO))
MAX_ANSWER_CHARACTERS = 1000  # one very long answer would pad a whole batch of the peer's
WORD_TOKENS, REASON_TOKENS = 2, 40
ASKED = {"one generated word": 3.0, "a generated sentence": 10.0, "labels without sharing": 2.0}
Ids = tuple[int, ...]


def choose_prompts(folder: Path, chat: ChatFormat, n_prompts: int) -> list[Ids]:
    """Return the first answers of the human-scored set that are no longer than the limit, as the judge sees them."""
    rows = [row.data for row in read_rows(folder / "human-scored" / "objective.jsonl")]
    short = [r for r in rows if len(str(r["response"])) <= MAX_ANSWER_CHARACTERS][:n_prompts]
    text = rubric(load_policy(policy_path()), "", "harmful").text
    judged = [Transcript((Message("user", str(r["objective"])),), str(r["response"])) for r in short]
    return [
        chat.prompt([Message("user", rubric_prompt(text, quoted(t)[0]))]) + chat.opening("Verdict:") for t in judged
    ]


def score_apart(loaded: LoadedModel, chat: ChatFormat, prompts: Sequence[Ids]) -> None:
    """Read the same label probabilities, each prompt computed on its own."""
    spellings = [chat.opening(form)[0] for forms in LABELS for form in forms]
    trees = [Tree(p, ((spellings[0],),)) for p in prompts]
    with torch.inference_mode(), ready(loaded):
        head = Projection(head_weight(loaded.model))
        for rows in micro_batches_apart(trees, range(len(trees)), JUDGE_TOKENS):
            batch = collate_apart([trees[i] for i in rows]).to(loaded.device)
            logits = head.forward(answer_states(loaded.model, batch)).float()
            torch.log_softmax(logits, dim=-1)[:, spellings].cpu()


@torch.inference_mode()
def generate_verdicts(
    model: Any, prompts: Sequence[Ids], end_ids: frozenset[int], n_tokens: int, batch_size: int, *, all_of_it: bool
) -> None:
    """Generate greedily with transformers, longest first; `all_of_it`: no end before the last token."""
    pad = min(end_ids)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), batch_size):
        group = [prompts[i] for i in order[start : start + batch_size]]
        width = max(map(len, group))
        device = next(model.parameters()).device
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in group], device=device)
        real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in group], device=device)
        model.generate(
            input_ids=ids,
            attention_mask=real,
            max_new_tokens=n_tokens,
            min_new_tokens=n_tokens if all_of_it else 1,
            do_sample=False,
            eos_token_id=sorted(end_ids),
            pad_token_id=pad,
        )


def needed_flop(model: nn.Module, prompts: Sequence[Ids]) -> float:
    """Return the work that cannot be avoided (see the module's docstring)."""
    linear = sum(m.weight.numel() for m in decoder_of(model).layers.modules() if isinstance(m, nn.Linear))
    n_shared = common_prefix(prompts)
    n_read = n_shared + sum(len(p) - n_shared for p in prompts)
    return 2.0 * linear * n_read + 2.0 * head_weight(model).numel() * len(prompts)


def main() -> None:
    """Tune the peer, measure all sides in turn, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="4 answers, once: shows that it runs, measures nothing")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 8, 16, 32], help="tried for the peer")
    options = parser.parse_args()
    folder = data_folder()
    if options.quick:
        options.prompts, options.repetitions, options.batch_sizes = 4, 1, [4]
    hf_logging.set_verbosity_error()
    loaded = load_model("starter")
    model: Any = loaded.model
    device = loaded.device
    chat = ChatFormat(loaded.tokenizer)
    prompts = choose_prompts(folder, chat, options.prompts)
    n_shared = common_prefix(prompts)
    own = [len(p) - n_shared for p in prompts]
    peak = MatrixPeak(model.dtype, device, repeats=REPEATS if options.repetitions > 1 else 1)
    dtype = str(model.dtype).removeprefix("torch.")
    say(f"{processor(device)}; torch {torch.__version__}, transformers {transformers.__version__}, all in {dtype}")
    say(
        f"{len(prompts)} transcripts share {n_shared} tokens and have {statistics.median(own):.0f} of their own (median)"
    )

    def seconds(run: Callable[[], object]) -> float:
        began = clock(device)
        run()
        return clock(device) - began

    def generated(n_tokens: int, size: int, *, all_of_it: bool) -> Callable[[], None]:
        return partial(generate_verdicts, model, prompts, chat.end_ids, n_tokens, size, all_of_it=all_of_it)

    sweep = {size: seconds(generated(WORD_TOKENS, size, all_of_it=False)) for size in options.batch_sizes}
    size = min(sweep, key=sweep.__getitem__)
    say(f"transformers tuned: batch {size} of {', '.join(f'{k}: {v:.1f} s' for k, v in sweep.items())}")
    sides: dict[str, Callable[[], object]] = {
        "ours": partial(label_shares, loaded, chat, prompts, LABELS),
        "one generated word": generated(WORD_TOKENS, size, all_of_it=False),
        "a generated sentence": generated(REASON_TOKENS, size, all_of_it=True),
        "labels without sharing": partial(score_apart, loaded, chat, prompts),
    }
    seconds(sides["ours"])  # the first call finds kernels and compares shared with apart
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for repetition in range(options.repetitions):
        for name in list(sides)[:: 1 if repetition % 2 == 0 else -1]:
            rates[name].append(len(prompts) / seconds(sides[name]))
        said = ", ".join(f"{name} {side[-1]:.2f}" for name, side in rates.items())
        say(f"{repetition + 1}/{options.repetitions} verdicts a second: {said}")
        peak.measure()
    ours = statistics.median(rates["ours"])
    contests: dict[str, dict[str, Any]] = {}
    for name, asked in ASKED.items():
        ratio, low, high = paired_ratio(rates["ours"], rates[name])
        contests[name] = {"peer": statistics.median(rates[name]), "ratio": ratio, "range": [low, high], "asked": asked}
        say(
            f"label probabilities under a shared rubric are {ratio:.2f} x {name} ({low:.2f} to {high:.2f}), asked {asked:.0f}"
        )
    share = needed_flop(model, prompts) / len(prompts) * ours / peak.best
    word = contests["one generated word"]
    finish(
        {
            "work": f"verdicts on {len(prompts)} answers under one rubric of {n_shared} tokens",
            "ours": ours,
            "peer": word["peer"],
            "unit": "verdicts/s",
            "ratio": word["ratio"],
            "share_of_limit": share,
            "processor": processor(device),
            "met": all(c["ratio"] >= c["asked"] for c in contests.values()),
            "contests": contests,
            "runs": rates,
            "peer_batch_sizes": json.loads(json.dumps(sweep)),
        }
    )


if __name__ == "__main__":
    main()
