"""Parts that prefer: pairs of answers under any objective on pairs, and answers that are each marked good or bad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from accord.models.head import Head, token_logps
from accord.models.sharing import batches
from accord.models.tree import FORWARD_TOKENS, Tree, TreeBatch
from accord.objectives.dpo import dpo
from accord.objectives.kto import kl_baseline, kto, mismatched
from accord.objectives.pairs import Pairs
from accord.objectives.reduction import Losses, Totals
from accord.train.mixture import Mixture, Part
from accord.train.parallel import from_all, own_batches
from accord.train.states import NOTHING_FROZEN, FrozenStates
from accord.types import Progress


@dataclass(frozen=True, slots=True)
class Preferred(Part):
    """Rows of two answers, the preferred one first.

    `ref_logps` [R, 2] are the reference's, by row, and `preference` [R] the raters' probabilities, NaN for a row without one; None
    where the objective needs none.
    """

    head: Head
    objective: Callable[[Pairs], Losses] = dpo
    ref_logps: Tensor | None = None
    preference: Tensor | None = None
    name: str = "dpo"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count pairs."""
        return Totals(tokens=0, examples=len(rows))

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the pairs' losses, and of the chosen and the rejected answers what `_measured` does."""
        told = token_logps(batch.predicting(hidden_BLD), self.head, batch.targets_N)
        logps_B2 = batch.sums(told.logps_N).view(-1, 2)
        n_B2 = batch.lengths().view(-1, 2)
        ref_B2 = _of(rows, self.ref_logps, logps_B2)
        pairs = Pairs(
            logps_B2[:, 0],
            logps_B2[:, 1],
            n_B2[:, 0],
            n_B2[:, 1],
            ref_chosen_B=None if ref_B2 is None else ref_B2[:, 0],
            ref_rejected_B=None if ref_B2 is None else ref_B2[:, 1],
            preference_B=_of(rows, self.preference, logps_B2),
        )
        metrics = {"entropy": told.entropy_N}
        for side, name in enumerate(("chosen", "rejected")):
            metrics |= _measured(name, logps_B2[:, side], None if ref_B2 is None else ref_B2[:, side], n_B2[:, side])
        return [self.objective(pairs).with_metrics(**metrics)]


@dataclass(frozen=True, slots=True)
class Marked(Part):
    """Rows of one answer, marked good or bad (`desirable`, by row), for KTO.

    The level that answers are compared with is that of a whole step: answers to other prompts, one a row, under the model as it
    is when the step begins, and under the reference (`ref_logps` and `mismatched_ref_logps` [R], by row).
    """

    head: Head
    desirable: Tensor
    ref_logps: Tensor
    mismatched_trees: Sequence[Tree]
    mismatched_ref_logps: Tensor
    objective: Callable[..., Losses] = kto
    name: str = "kto"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count answers."""
        return Totals(tokens=0, examples=len(rows))

    def before_step(self, model: nn.Module, rows: Sequence[int]) -> Tensor:
        """Return the level that the step's answers are compared with."""
        trees = [self.mismatched_trees[i] for i in rows]
        logps_R = answer_logps(model, trees, NOTHING_FROZEN, self.head)[:, 0]
        return kl_baseline(logps_R, self.mismatched_ref_logps[list(rows)])

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the answers' losses, the level as `baseline`, and of either kind of answers what `_measured` does."""
        told = token_logps(batch.predicting(hidden_BLD), self.head, batch.targets_N)
        logps_A = batch.sums(told.logps_N)
        device = logps_A.device
        ref_A, desirable_A = self.ref_logps[list(rows)].to(device), self.desirable[list(rows)].to(device)
        level, n_A = shared.to(device), batch.lengths()
        metrics = {"entropy": told.entropy_N, "baseline": level.expand_as(logps_A)}
        for name, kind_A in (("desirable", desirable_A), ("undesirable", ~desirable_A)):
            metrics |= _measured(name, logps_A[kind_A], ref_A[kind_A], n_A[kind_A])
        return [self.objective(logps_A, ref_A, desirable_A, level).with_metrics(**metrics)]


def preference_task(
    trees: Sequence[Tree],
    states: FrozenStates,
    head: Head,
    ref_logps: Tensor | None,
    objective: Callable[[Pairs], Losses] = dpo,
    preference: Tensor | None = None,
    name: str = "dpo",
) -> Mixture:
    """Prefer one answer to another: every row is a pair."""
    return Mixture(trees, [0] * len(trees), (Preferred(head, objective, ref_logps, preference, name),), states)


def mismatched_trees(trees: Sequence[Tree], limit: int) -> list[Tree]:
    """Return each row's prompt with another prompt's answer, of at most `limit` tokens together.

    A prompt that is long and an answer that is long fit each beside its own, not together: such an answer is cut, for nothing is
    learned of it.

    Raises:
        AccordError: more than half of the rows have one prompt.
    """
    partners = mismatched([t.prompt for t in trees])
    return [
        Tree(t.prompt, tuple(a[: limit - len(t.prompt)] for a in trees[j].answers))
        for t, j in zip(trees, partners, strict=True)
    ]


def _measured(name: str, logps_A: Tensor, ref_logps_A: Tensor | None, n_A: Tensor) -> dict[str, Tensor]:
    """Return by metric, of answers of one kind, how many tokens they have and, with a reference, log p - log p_ref a token.

    The ratio says how far the model has moved on the data's answers. It is no KL: that is a mean over the model's own.
    """
    measured = {f"{name}_length": n_A.to(logps_A.dtype)}
    if ref_logps_A is not None:
        measured[f"{name}_log_ratio_per_token"] = (logps_A.detach() - ref_logps_A) / n_A
    return measured


def _of(rows: Sequence[int], values: Tensor | None, like: Tensor) -> Tensor | None:
    return None if values is None else values[list(rows)].to(like.device)


@torch.no_grad()
def answer_logps(
    model: nn.Module,
    trees: Sequence[Tree],
    states: FrozenStates,
    head: Head,
    progress: Progress | None = None,
    stage: str = "",
) -> Tensor:
    """Return the log-probability, summed over tokens, of each answer of every row, in order. Shape [R, answers a row], fp32.

    Processes that train together share the rows out. All rows hold the same number of answers. `states` may hold the rows' frozen
    states; where it holds none, the whole model is run.
    """
    result = torch.zeros(len(trees), len(trees[0].answers))
    own = own_batches(batches(model, trees, range(len(trees)), FORWARD_TOKENS), model)
    if progress:
        progress.start(stage, sum(map(len, own)), "rows")
    for rows in own:
        batch, hidden_BLD = states.last_states(model, trees, rows)
        told = token_logps(batch.predicting(hidden_BLD), head, batch.targets_N)
        result[rows] = batch.sums(told.logps_N).view(len(rows), -1).cpu()
        if progress:
            progress.advance(len(rows))
    if progress:
        progress.finish()
    return from_all(result, [i for rows in own for i in rows])
