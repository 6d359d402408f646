"""Parts that say what a row's answer, or another distribution, says: demonstrations, the retain term, distillation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from accord.models.head import Head, any_of_logps, forward_kl, token_logps
from accord.models.sharing import batches
from accord.models.tree import FORWARD_TOKENS, Tree, TreeBatch
from accord.objectives.distillation import distillation
from accord.objectives.onset import onset
from accord.objectives.reduction import Losses, Totals
from accord.objectives.retain import retain
from accord.objectives.sft import sft
from accord.train.mixture import Mixture, Part
from accord.train.parallel import from_all, own_batches
from accord.train.states import NOTHING_FROZEN, FrozenStates
from accord.types import Progress

# A beginning that fewer answers share (a content word, say) also begins answers that are no refusals.
MIN_ONSET_SHARE = 0.04
MIN_FORK_SHARE = 0.01
MIN_ANSWERED_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Learned(Part):
    """Rows whose answer is learned.

    `onsets` are the tokens with which such answers begin: that one of them comes first, and the written one's next ones up to
    `onset_tokens`, is a loss of its own beside the likelihood of the whole answer, whose first token belongs to the set in any
    case. Without any, the likelihood is all.
    """

    trees: Sequence[Tree]
    head: Head
    onsets: tuple[int, ...] = ()
    onset_tokens: int = 3
    name: str = "sft"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count supervised tokens and answers."""
        return count(self.trees, rows)

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the negative log-likelihood, and the onset's."""
        hidden_ND = batch.predicting(hidden_BLD)
        told = token_logps(hidden_ND, self.head, batch.targets_N)
        logps_AT, mask_AT = batch.by_answer(told.logps_N)
        whole = sft(logps_AT, mask_AT).with_metrics(entropy=told.entropy_N)
        if not self.onsets:
            return [whole]
        first_N = batch.is_first()
        targets_A = batch.targets_N[first_N]
        sets_AS = torch.cat([targets_A.new_tensor(self.onsets).expand(len(targets_A), -1), targets_A[:, None]], 1)
        set_logps_A = any_of_logps(hidden_ND[first_N], self.head, sets_AS)
        n = self.onset_tokens
        return [whole, onset(set_logps_A, logps_AT[:, :n], mask_AT[:, :n])]


@dataclass(frozen=True, slots=True)
class Matched(Part):
    """Rows along whose answers another distribution is kept to: the base model's (`retain`), or a teacher's (`distillation`).

    A row may hold several answers, each a path. `teacher_head` and the last states in `states` are that distribution. `forks` say
    of some rows which tokens it is kept to without, by supervised token, all answers' in order.
    """

    trees: Sequence[Tree]
    states: FrozenStates
    head: Head
    teacher_head: Head
    forks: Mapping[int, Mapping[int, tuple[int, ...]]] = field(default_factory=dict)
    objective: Callable[[Tensor, Tensor], Losses] = retain
    name: str = "retain"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count supervised tokens and answers."""
        return count(self.trees, rows)

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the divergence from that distribution."""
        teacher_ND = self.states.reference(rows).to(hidden_BLD.device)
        left_out_NS = self._left_out(rows)
        if left_out_NS is not None:
            left_out_NS = left_out_NS.to(hidden_BLD.device)
        kl_N = forward_kl(batch.predicting(hidden_BLD), self.head, teacher_ND, self.teacher_head, left_out_NS)
        return [self.objective(*batch.by_answer(kl_N))]

    def _left_out(self, rows: Sequence[int]) -> Tensor | None:
        """The tokens that are left out of the teacher's distribution at each supervised token. Shape [N, S], -1 for none."""
        sizes = [sum(map(len, self.trees[i].answers)) for i in rows]
        at = {
            start + n: tokens
            for start, i in zip(accumulate(sizes, initial=0), rows, strict=False)
            for n, tokens in self.forks.get(i, {}).items()
        }
        if not at:
            return None
        left_out_NS = torch.full((sum(sizes), max(map(len, at.values()))), -1)
        for n, tokens in at.items():
            left_out_NS[n, : len(tokens)] = torch.tensor(tokens)
        return left_out_NS


def sft_task(
    trees: Sequence[Tree],
    learned: Sequence[bool],
    states: FrozenStates,
    head: Head,
    reference_head: Head,
    onsets: tuple[int, ...],
    onset_tokens: int = 3,
    retain_coefficient: float = 1.0,
    forks: Mapping[int, Mapping[int, tuple[int, ...]]] | None = None,
) -> Mixture:
    """Learn the answers of some rows; on the others stay with the base model (`learned[i]` says which), but for its `forks`."""
    parts = (
        Learned(trees, head, onsets, onset_tokens),
        Matched(trees, states, head, reference_head, forks or {}, coefficient=retain_coefficient),
    )
    return Mixture(trees, [0 if learn else 1 for learn in learned], parts, states)


def distillation_task(
    trees: Sequence[Tree], states: FrozenStates, teacher: FrozenStates, head: Head, teacher_head: Head
) -> Mixture:
    """Say after every prompt what a teacher would: `teacher` are its last states along the same answers, after what it read."""
    part = Matched(trees, teacher, head, teacher_head, objective=distillation, name="distillation")
    return Mixture(trees, [0] * len(trees), (part,), states)


@torch.no_grad()
def teacher_kl(
    model: nn.Module,
    trees: Sequence[Tree],
    teacher: FrozenStates,
    head: Head,
    teacher_head: Head,
    progress: Progress,
    stage: str,
) -> Tensor:
    """Return KL(teacher || model) over the whole vocabulary, the mean over each row's answer tokens, in nats. Shape [R].

    Processes that train together share the rows out.
    """
    result = torch.zeros(len(trees))
    own = own_batches(batches(model, trees, range(len(trees)), FORWARD_TOKENS), model)
    progress.start(stage, sum(map(len, own)), "rows")
    for rows in own:
        batch, hidden_BLD = NOTHING_FROZEN.last_states(model, trees, rows)
        teacher_ND = teacher.reference(rows).to(hidden_BLD.device)
        kl_N = forward_kl(batch.predicting(hidden_BLD), head, teacher_ND, teacher_head)
        result[rows] = (batch.sums(kl_N) / batch.lengths()).cpu()
        progress.advance(len(rows))
    progress.finish()
    return from_all(result, [i for rows in own for i in rows])


def common_onsets(trees: Sequence[Tree], learned: Sequence[bool]) -> tuple[int, ...]:
    """Return the tokens with which at least `MIN_ONSET_SHARE` of the learned answers begin."""
    first = Counter(t.answers[0][0] for t, learn in zip(trees, learned, strict=True) if learn)
    return tuple(sorted(token for token, n in first.items() if n >= MIN_ONSET_SHARE * first.total()))


def refusal_forks(trees: Sequence[Tree], learned: Sequence[bool]) -> dict[int, dict[int, tuple[int, ...]]]:
    """Return, by row that is not learned and by supervised token (all answers' in order), the tokens that lead into a refusal.

    Such a row's first answer is what it is answered, any other the beginning of a refusal. A token leads into a refusal where at
    least `MIN_FORK_SHARE` of those beginnings go on with it, and first answers come so far but do not go on so (fewer than
    `MIN_ANSWERED_SHARE` of them): after "I" it is "won", after "I'm" "sorry", "afraid" and "not".
    """
    kept = {i: t for i, (t, learn) in enumerate(zip(trees, learned, strict=True)) if not learn}
    starts = Counter(t.answers[0][:n] for t in kept.values() for n in range(len(t.answers[0]) + 1))
    answered = {beginning for beginning, n in starts.items() if n >= MIN_ANSWERED_SHARE * len(kept)}
    refusals = [path for t in kept.values() for path in t.answers[1:]]
    begun = Counter(path[: n + 1] for path in refusals for n in range(len(path)))
    after: dict[tuple[int, ...], tuple[int, ...]] = {}
    for beginning, n in sorted(begun.items()):
        if n >= MIN_FORK_SHARE * len(refusals) and beginning not in answered and beginning[:-1] in answered:
            after[beginning[:-1]] = (*after.get(beginning[:-1], ()), beginning[-1])
    forks: dict[int, dict[int, tuple[int, ...]]] = {}
    for i, tree in kept.items():
        places = accumulate(map(len, tree.answers), initial=0)
        own = {
            start + n: after[path[:n]]
            for start, path in zip(places, tree.answers, strict=False)
            for n in range(len(path))
            if path[:n] in after
        }
        if own:
            forks[i] = own
    return forks


def count(trees: Sequence[Tree], rows: Sequence[int]) -> Totals:
    """Count the supervised tokens and the answers of some rows."""
    answers = [answer for i in rows for answer in trees[i].answers]
    return Totals(tokens=sum(map(len, answers)), examples=len(answers))
