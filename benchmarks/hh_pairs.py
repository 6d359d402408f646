"""What the benchmarks of training share on both sides: hh-rlhf's pairs as token ids, and the hyper-parameters."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.data import read_comparisons
from accord.models.chat import ChatFormat
from accord.models.tree import Tree
from accord.models.work import Extent, extent_of, lengths_of
from accord.types import Comparison

# What is trained: the starter says little of a GPU, which a model of its size leaves idle.
MODEL = os.environ.get("ACCORD_BENCH_MODEL", "starter")
SEED = 0
RANK = ALPHA = 16
ROWS_PER_STEP = int(os.environ.get("ACCORD_BENCH_STEP", "8"))  # TRL's default batch
MAX_LENGTH = 1024  # TRL's default; a longer pair would be cut there and not here


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same pairs for both sides: conversations for TRL's own tokenisation, and the ids that both are given."""

    comparisons: tuple[Comparison, ...]
    trees: tuple[Tree, ...]

    def some(self, rows: Sequence[int]) -> Pairs:
        """Return the pairs of some rows."""
        return Pairs(tuple(self.comparisons[i] for i in rows), tuple(self.trees[i] for i in rows))

    def spread(self, n: int) -> Pairs:
        """Return n pairs of evenly spread lengths."""
        return self.some(spread(self.trees, n))


def choose_pairs(folder: Path, chat: ChatFormat, n_pairs: int, max_length: int) -> Pairs:
    """Return a fixed random choice of the usable pairs whose prompt and longer answer are below `max_length` tokens."""
    usable: list[tuple[Comparison, Tree]] = []
    for name in ("dev", "train"):
        path = folder / "hh-rlhf" / f"harmless-base.{name}.jsonl.gz"
        for comparison in read_comparisons(path, drop=True).comparisons:
            chosen = chat.render(comparison.messages, comparison.chosen)
            rejected = chat.render(comparison.messages, comparison.rejected)
            tree = Tree(chosen.prompt, (chosen.answer, rejected.answer))
            # One spare token: TRL's own tokenisation has a newline after the end of the turn.
            if tree.longest < max_length:
                usable.append((comparison, tree))
    picked = random.Random(SEED).sample(usable, n_pairs)
    return Pairs(tuple(comparison for comparison, _ in picked), tuple(tree for _, tree in picked))


def by_length(trees: Sequence[Tree]) -> list[int]:
    """Return the rows, the longest first, as TRL pads them: prompt and longer answer."""
    return sorted(range(len(trees)), key=lambda i: -trees[i].longest)


def spread(trees: Sequence[Tree], n: int) -> list[int]:
    """Return n rows of evenly spread lengths."""
    rows = by_length(trees)
    return [rows[(2 * k + 1) * len(rows) // (2 * n)] for k in range(n)]


def extent_of_epoch(trees: Sequence[Tree], rows_per_step: int = ROWS_PER_STEP) -> Extent:
    """Return what one pass over the trees comes to; what all prompts begin with is needed once a step, not once a row."""
    steps = [extent_of(lengths_of(trees[at : at + rows_per_step])) for at in range(0, len(trees), rows_per_step)]
    return Extent(sum(s.positions for s in steps), sum(s.answers for s in steps), sum(s.pairs for s in steps))
