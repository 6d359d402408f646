"""Comparisons of K answers to one prompt as one batch element (InstructGPT, arXiv 2203.02155, section 3.5), against K(K-1)/2 pairs.

Both sides are Accord's: a reward model with LoRA on all layers, the same prompts and answers, the same comparisons. As one element
a prompt and each of its answers are computed once; as pairs, which share their prompt too, each answer is computed K - 1 times.
First both sides' losses and gradients at the same weights are compared: the same mathematics, divided by prompts.

The prompts are hh-rlhf's; a prompt's K answers are its own two and those of the next prompts, since the set has two a prompt: what
is measured is time, and it has real lengths.

Run: `python benchmarks/kway_vs_pairs.py [--quick] [--answers 4]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import random
import statistics
import warnings
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from epoch import train_epoch
from machine import data_folder, finish, paired_ratio, processor, say
from torch import nn

from accord.data import read_comparisons
from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.precision import Precision, pick_device
from accord.models.reward import score_head, with_score_head
from accord.models.tree import Tree
from accord.objectives.reduction import reduce
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.rewards import Ranking, reward_task
from accord.train.states import NOTHING_FROZEN

SEED, RANK, ROWS_PER_STEP = 0, 16, 8
LEAST_RATIO = {4: 2.5}
MOST_DIFFERENCE = 1e-4


def choose_prompts(folder: Path, chat: ChatFormat, n: int, k: int, max_tokens: int) -> list[Tree]:
    """Return n prompts with k answers each, at most `max_tokens` tokens together."""
    pairs = read_comparisons(folder / "hh-rlhf" / "harmless-base.dev.jsonl.gz", drop=True).comparisons
    chosen = random.Random(SEED).sample(range(len(pairs)), len(pairs))
    trees: list[Tree] = []
    for at, i in enumerate(chosen):
        own = [pairs[j] for j in (chosen[(at + shift) % len(chosen)] for shift in range((k + 1) // 2))]
        texts = [text for c in own for text in (c.chosen, c.rejected)][:k]
        tree = Tree(chat.prompt(pairs[i].messages), tuple(chat.answer(text) for text in texts))
        if tree.length <= max_tokens:
            trees.append(tree)
        if len(trees) == n:
            return trees
    raise SystemExit(f"only {len(trees)} prompts are short enough")


def as_pairs(trees: Sequence[Tree]) -> list[Tree]:
    """Return every pair of every prompt's answers as a tree of its own."""
    return [Tree(t.prompt, (t.answers[i], t.answers[j])) for t in trees for i, j in all_pairs(t)]


def all_pairs(tree: Tree) -> list[tuple[int, int]]:
    """Return the comparisons of a prompt's answers: each with each later one."""
    return list(combinations(range(len(tree.answers)), 2))


def fresh(precision: Precision = "auto") -> nn.Module:
    """Return a reward model with new adapters, the same every time."""
    loaded = with_score_head(load_model("starter", precision))
    torch.manual_seed(SEED)
    model: nn.Module = add_lora(loaded, RANK, first_layer=0)
    nn.init.normal_(score_head(model).weight, std=0.05)
    return model


def task_of(model: nn.Module, trees: Sequence[Tree]) -> Mixture:
    """Return the task of either side: what it is given says which."""
    return reward_task(trees, [Ranking(tuple(all_pairs(t))) for t in trees], NOTHING_FROZEN, score_head(model))


def largest_difference(trees: Sequence[Tree]) -> float:
    """Return by how much loss and gradient of the two sides differ at most, relative to the gradient's largest, in fp32."""
    found = []
    for rows in (list(trees), as_pairs(trees)):
        model = fresh("fp32")
        task = task_of(model, rows)
        totals = task.totals(range(len(rows)))
        loss = 0.0
        for micro in task.batches(model, range(len(rows)), 2048):
            (term,) = task.terms(model, micro, task.before_step(model, micro))
            part = reduce(term.losses, totals[term.group])
            part.backward()
            loss += part.item()
        found.append((loss, [p.grad for p in model.parameters() if p.grad is not None]))
    (loss_a, grads_a), (loss_b, grads_b) = found
    largest = max(float(g.abs().max()) for g in grads_a)
    apart = max(float((a - b).abs().max()) for a, b in zip(grads_a, grads_b, strict=True))
    return max(abs(loss_a - loss_b), apart / largest)


def time_epoch(trees: Sequence[Tree], rows_per_step: int, device: torch.device) -> float:
    """Return the seconds of one pass."""
    model = fresh()
    settings = TrainSettings(learning_rate=1e-5, rows_per_step=rows_per_step, seed=SEED)
    return train_epoch(model, lambda: task_of(model, trees), settings, device)


def main() -> None:
    """Compare losses and gradients, then time both sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="2 short prompts, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--answers", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    folder, device = data_folder(), pick_device()
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers' of itself
    if options.quick:
        options.prompts, options.repetitions = 2, 1
    k = options.answers
    chat = ChatFormat(load_model("starter").tokenizer)
    trees = choose_prompts(folder, chat, options.prompts, k, 150 if options.quick else 1024)
    pairs = as_pairs(trees)
    positions = [sum(t.length for t in rows) for rows in (trees, pairs)]
    say(
        f"{processor(device)}; {len(trees)} prompts with {k} answers: {positions[0]} positions, "
        f"as {len(pairs)} pairs {positions[1]}"
    )
    difference = largest_difference(trees[:2])
    say(f"largest difference of loss and gradient in fp32: {difference:.1e}")
    if not difference <= MOST_DIFFERENCE:
        raise SystemExit("the two sides do not do the same work")
    together: list[float] = []
    apart: list[float] = []
    n_pairs = k * (k - 1) // 2
    time_epoch(trees[:2], ROWS_PER_STEP, device)  # the first batch of a process compiles
    for repetition in range(options.repetitions):
        order = [(together, trees, ROWS_PER_STEP), (apart, pairs, ROWS_PER_STEP * n_pairs)]
        for rates, rows, rows_per_step in order[:: 1 if repetition % 2 == 0 else -1]:
            rates.append(len(trees) / time_epoch(rows, rows_per_step, device))
        say(f"{repetition + 1}/{options.repetitions}: {together[-1]:.3f} prompts/s together, {apart[-1]:.3f} as pairs")
    ratio, low, high = paired_ratio(together, apart)
    say(f"one element is {ratio:.2f} x as fast [{low:.2f} to {high:.2f}]")
    finish(
        {
            "work": f"reward model, LoRA r{RANK}, {len(trees)} prompts of {k} answers, all {n_pairs} comparisons of each",
            "ours": statistics.median(together),
            "peer": statistics.median(apart),
            "unit": "prompts/s",
            "ratio": ratio,
            "ratio_range": [low, high],
            "share_of_limit": None,
            "processor": processor(device),
            "quick": options.quick,
            "largest_difference": difference,
            "met": k not in LEAST_RATIO or ratio >= LEAST_RATIO[k],
        }
    )


if __name__ == "__main__":
    main()
