"""Tasks for the offline loop: what a row is and what its losses are, for demonstrations and for preference pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from accord.models.head import any_of_logps, forward_kl, token_logps
from accord.models.projection import Projection
from accord.models.tree import Tree, micro_batches
from accord.objectives.dpo import dpo
from accord.objectives.onset import onset
from accord.objectives.reduction import Totals
from accord.objectives.retain import retain
from accord.objectives.sft import sft
from accord.train.offline import Term, per_answer
from accord.train.states import FORWARD_TOKENS, FrozenStates
from accord.types import Progress

# A beginning that fewer answers share (a content word, say) also begins answers that are no refusals.
MIN_ONSET_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class SFTTask:
    """Learn the answers of some rows; on the others stay with the base model (`learned[i]` says which).

    The two kinds are divided by their own totals, so that neither outweighs the other by having more or longer rows. A retained
    row may hold several answers: each is a path along which the base model's distribution is kept. `onsets`
    are the tokens with which learned answers begin: that one of them comes first, and the written one's next ones up to
    `onset_tokens`, is a loss of its own beside the likelihood of the whole answer, whose first token belongs to the set in any
    case.
    """

    trees: Sequence[Tree]
    learned: Sequence[bool]
    states: FrozenStates
    head: Projection | Tensor
    reference_head: Projection | Tensor
    onsets: tuple[int, ...]
    onset_tokens: int = 3
    retain_coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Mapping[str, Totals]:
        """Count supervised tokens and answers of the two groups."""
        return {
            "sft": _totals(self.trees, [i for i in rows if self.learned[i]]),
            "retain": _totals(self.trees, [i for i in rows if not self.learned[i]]),
        }

    def terms(self, model: nn.Module, rows: Sequence[int]) -> list[Term]:
        """Return the negative log-likelihood of learned rows and the divergence on retained ones."""
        batch, hidden_ND = self.states.answer_states(model, self.trees, rows)
        learned_N = torch.tensor([self.learned[i] for i in rows], device=hidden_ND.device)[batch.tree_N]
        learned_B = learned_N[batch.is_first()]
        terms: list[Term] = []
        if bool(learned_B.any()):
            logps_N = hidden_ND.new_zeros(len(learned_N), dtype=torch.float32)
            logps_N[learned_N] = token_logps(hidden_ND[learned_N], self.head, batch.targets_N[learned_N])
            logps_BT, mask_BT = per_answer(logps_N, batch)
            terms.append(Term("sft", sft(logps_BT[learned_B], mask_BT[learned_B])))
            first_N = batch.is_first() & learned_N
            targets_B = batch.targets_N[first_N]
            sets_BS = torch.cat([targets_B.new_tensor(self.onsets).expand(len(targets_B), -1), targets_B[:, None]], 1)
            set_logps_B = any_of_logps(hidden_ND[first_N], self.head, sets_BS)
            n = self.onset_tokens
            terms.append(Term("sft", onset(set_logps_B, logps_BT[learned_B, :n], mask_BT[learned_B, :n])))
        if not bool(learned_B.all()):
            reference_ND = self.states.reference([i for i in rows if not self.learned[i]]).to(hidden_ND.device)
            kl_N = hidden_ND.new_zeros(len(learned_N), dtype=torch.float32)
            kl_N[~learned_N] = forward_kl(hidden_ND[~learned_N], self.head, reference_ND, self.reference_head)
            kl_BT, mask_BT = per_answer(kl_N, batch)
            losses = retain(kl_BT[~learned_B], mask_BT[~learned_B])
            terms.append(Term("retain", losses, self.retain_coefficient))
        return terms


@dataclass(frozen=True, slots=True)
class DPOTask:
    """Prefer one answer to another. Each tree holds (chosen, rejected); `ref_logps` are the reference's, by row."""

    trees: Sequence[Tree]
    ref_logps: Tensor
    states: FrozenStates
    head: Projection | Tensor
    beta: float = 0.1

    def totals(self, rows: Sequence[int]) -> Mapping[str, Totals]:
        """Count pairs."""
        return {"dpo": Totals(tokens=0, examples=len(rows))}

    def terms(self, model: nn.Module, rows: Sequence[int]) -> list[Term]:
        """Return the pairs' losses."""
        logps_B2 = pair_logps(model, self.trees, rows, self.states, self.head)
        ref_B2 = self.ref_logps[list(rows)].to(logps_B2.device)
        return [Term("dpo", dpo(logps_B2[:, 0], logps_B2[:, 1], ref_B2[:, 0], ref_B2[:, 1], self.beta))]


def common_onsets(trees: Sequence[Tree], learned: Sequence[bool]) -> tuple[int, ...]:
    """Return the tokens with which at least `MIN_ONSET_SHARE` of the learned answers begin."""
    first = Counter(t.answers[0][0] for t, learn in zip(trees, learned, strict=True) if learn)
    return tuple(sorted(token for token, n in first.items() if n >= MIN_ONSET_SHARE * first.total()))


def pair_logps(
    model: nn.Module, trees: Sequence[Tree], rows: Sequence[int], states: FrozenStates, head: Projection | Tensor
) -> Tensor:
    """Return log-probabilities summed over each answer of each pair. Shape [B, 2]."""
    batch, hidden_ND = states.answer_states(model, trees, rows)
    logps_N = token_logps(hidden_ND, head, batch.targets_N)
    sums = logps_N.new_zeros(batch.n_answers).index_add(0, batch.answer_N, logps_N)
    return sums.view(-1, 2)


@torch.no_grad()
def all_pair_logps(
    model: nn.Module,
    trees: Sequence[Tree],
    states: FrozenStates,
    head: Projection | Tensor,
    progress: Progress,
    stage: str,
) -> Tensor:
    """Return `pair_logps` of every row, in order, under the model as it is now. Shape [R, 2]."""
    result = torch.zeros(len(trees), 2)
    progress.start(stage, len(trees), "pairs")
    for rows in micro_batches(trees, range(len(trees)), FORWARD_TOKENS):
        result[rows] = pair_logps(model, trees, rows, states, head).cpu()
        progress.advance(len(rows))
    progress.finish()
    return result


def _totals(trees: Sequence[Tree], rows: Sequence[int]) -> Totals:
    answers = [answer for i in rows for answer in trees[i].answers]
    return Totals(tokens=sum(map(len, answers)), examples=len(answers))
