"""What sampling needs at least: arithmetic that rates of rollouts are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.models.tree import Tree
from accord.models.work import Sizes, lengths_of


@dataclass(frozen=True, slots=True)
class Machine:
    """Operations a second of its best matrix product, bytes a second that it reads from memory, bytes a number."""

    flops: float
    read: float
    itemsize: int


def rollout_seconds(sizes: Sizes, trees: Sequence[Tree], machine: Machine) -> float:
    """Return what sampling the answers of some prompts needs, with N weights in the layers and H in the head.

    Each prompt is read once for its whole group (2N a position; what all prompts begin with once). A sampled token needs 2H, and,
    unless it is the last, 2N and 4hL a position that it attends to; a pass for each token of the longest answer must read the
    weights: whichever is slower.
    """
    lengths = lengths_of(trees)
    prompts = 2.0 * sizes.trunk * sum(t.prompt - t.shared for t in lengths)
    answers = [(a, t.prompt) for t in lengths for a in t.answers]
    attended = sum((a - 1) * prompt + (a - 1) * a / 2 for a, prompt in answers)
    products = 2.0 * (sizes.trunk * sum(a - 1 for a, _ in answers) + sizes.head * sum(a for a, _ in answers))
    computed = (products + 4.0 * sizes.width * sizes.layers * attended) / machine.flops
    longest = max(a for a, _ in answers)
    weights = machine.itemsize * (sizes.trunk * (longest - 1) + sizes.head * longest)
    return prompts / machine.flops + max(computed, weights / machine.read)
