"""Comparisons of K answers to one prompt as one batch element (InstructGPT, arXiv 2203.02155, section 3.5), against K(K-1)/2 pairs.

Both sides are Accord's: a reward model with LoRA on all layers, the same prompts and answers, the same comparisons. As one element
a prompt and each of its answers are computed once; as pairs, which share their prompt too, each answer is computed K - 1 times.
First both sides' losses and gradients at the same weights are compared: the same mathematics, divided by prompts.

The prompts are hh-rlhf's; a prompt's K answers are its own two and those of the next prompts, since the set has two a prompt: what
is measured is time, and it has real lengths.

Run: `python benchmarks/kway_vs_pairs.py [--quick] [--answers 4]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from machine import data_folder, processor, say
from torch import nn
from two_ways import Way, compare, options_of

from accord.data import read_comparisons
from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.precision import Precision, pick_device
from accord.models.reward import score_head, with_score_head
from accord.models.tree import Tree
from accord.train.mixture import Mixture
from accord.train.rewards import Ranking, reward_task
from accord.train.states import NOTHING_FROZEN

SEED, RANK, ROWS_PER_STEP = 0, 16, 8
LEAST_RATIO = {4: 2.5}


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


def fresh(precision: Precision) -> nn.Module:
    """Return a reward model with new adapters, the same every time."""
    loaded = with_score_head(load_model("starter", precision))
    torch.manual_seed(SEED)
    model: nn.Module = add_lora(loaded, RANK, first_layer=0)
    nn.init.normal_(score_head(model).weight, std=0.05)
    return model


def task_of(model: nn.Module, trees: Sequence[Tree]) -> Mixture:
    """Return the task of either way."""
    return reward_task(trees, [Ranking(tuple(all_pairs(t))) for t in trees], NOTHING_FROZEN, score_head(model))


def ways(trees: Sequence[Tree]) -> tuple[Way, Way]:
    """Return both ways of the same prompts: what they are given is what differs."""
    n_pairs = len(all_pairs(trees[0]))
    together = Way("together", trees, ROWS_PER_STEP, task_of)
    return together, Way("as pairs", as_pairs(trees), ROWS_PER_STEP * n_pairs, task_of)


def main() -> None:
    """Compare losses and gradients, then time both ways in turn."""
    options = options_of(__doc__, prompts=16, answers=4)
    device, k = pick_device(), options.answers
    chat = ChatFormat(load_model("starter").tokenizer)
    trees = choose_prompts(data_folder(), chat, options.prompts, k, 150 if options.quick else 1024)
    both = ways(trees)
    positions = [sum(t.length for t in way.trees) for way in both]
    say(
        f"{processor(device)}; {len(trees)} prompts with {k} answers: {positions[0]} positions, "
        f"as {len(both[1].trees)} pairs {positions[1]}"
    )
    n_pairs = k * (k - 1) // 2
    work = f"reward model, LoRA r{RANK}, {len(trees)} prompts of {k} answers, all {n_pairs} comparisons of each"
    compare(both, ways(trees[:2]), fresh, len(trees), options, device, LEAST_RATIO.get(k), {"work": work})


if __name__ == "__main__":
    main()
