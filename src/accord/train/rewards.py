"""The part that scores: rows of answers to one prompt, ranked by people, for reward and cost models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from accord.models.reward import end_scores
from accord.models.tree import Tree, TreeBatch
from accord.objectives.bradley_terry import Ranked, bradley_terry
from accord.objectives.cost import Bordered, cost
from accord.objectives.reduction import Losses, Totals
from accord.train.mixture import Mixture, Part
from accord.train.states import FrozenStates


@dataclass(frozen=True, slots=True)
class Ranking:
    """What people said of one row's answers: pairs of their places, the better first (of a cost model: the more harmful).

    `margins` say by how much the better should lead, `preferences` how probable it is that it is better: one a pair, or none at
    all. `safe` says of each answer whether it is safe; empty where nobody said. A cost model's row may have no pair.
    """

    pairs: tuple[tuple[int, int], ...]
    margins: tuple[float, ...] = ()
    preferences: tuple[float, ...] = ()
    safe: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored(Part):
    """Rows of answers that a head scores; all comparisons of a row are one example."""

    head: nn.Linear
    rankings: Sequence[Ranking]
    centring: float = 0.0
    name: str = "reward"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count rows."""
        return Totals(tokens=0, examples=len(rows))

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the rows' losses: Bradley-Terry's, or a cost model's where safe and unsafe answers are told apart."""
        scores_A = end_scores(self.head, batch, hidden_BLD)
        rankings = [self.rankings[i] for i in rows]
        # Where each row's answers begin among the batch's.
        _, sizes = batch.tree_A.unique_consecutive(return_counts=True)
        first = (sizes.cumsum(0) - sizes).tolist()
        pairs = [(s + i, s + j) for s, r in zip(first, rankings, strict=True) for i, j in r.pairs]
        pairs_P2 = torch.tensor(pairs, dtype=torch.long, device=scores_A.device).view(-1, 2)
        ranked = Ranked(
            better_P=scores_A[pairs_P2[:, 0]],
            worse_P=scores_A[pairs_P2[:, 1]],
            prompt_P=_numbered([len(r.pairs) for r in rankings], scores_A),
            n_prompts=len(rows),
            margin_P=_joined([r.margins for r in rankings], scores_A),
            preference_P=_joined([r.preferences for r in rankings], scores_A),
        )
        safe_A = _joined([r.safe for r in rankings], scores_A)
        if safe_A is None:
            return [bradley_terry(ranked, self.centring)]
        return [cost(ranked, Bordered(scores_A, safe_A, _numbered([len(r.safe) for r in rankings], scores_A)))]


def _numbered(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return each row's number, as often as the row has things."""
    return torch.tensor([n for n, size in enumerate(sizes) for _ in range(size)], dtype=torch.long, device=like.device)


def _joined(values: Sequence[Sequence[float]], like: Tensor) -> Tensor | None:
    """Return the rows' values one after the other; None where no row has any."""
    flat = [float(x) for row in values for x in row]
    return torch.tensor(flat, dtype=like.dtype, device=like.device) if flat else None


def reward_task(
    trees: Sequence[Tree], rankings: Sequence[Ranking], states: FrozenStates, head: nn.Linear, centring: float = 0.0
) -> Mixture:
    """Score answers as people ranked them."""
    return Mixture(trees, [0] * len(trees), (Scored(head, rankings, centring),), states)
