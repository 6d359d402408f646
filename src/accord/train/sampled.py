"""The part that reinforces: groups of sampled answers, each weighed by how good it was, and what a value model makes of them.

Shapes: R rows (prompts), N tokens of a row's answers, all answers' in order; A answers, T tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.models.head import Head, reverse_kl, token_logps
from accord.models.tree import Tree, TreeBatch
from accord.objectives.importance import mismatch, truncated_weights
from accord.objectives.kl import Estimator, kl_loss
from accord.objectives.policy_gradient import Samples, mean_of_answer
from accord.objectives.reduction import Losses, Totals, masked_sum
from accord.objectives.value import value
from accord.train.imitation import count
from accord.train.mixture import Part


@dataclass(frozen=True, slots=True)
class Weighed:
    """One prompt's sampled answers. Every field but `advantages` has shape [N], and may be None where nothing needs it.

    `sampled_logps` are the engine's, `old_logps` the learner's when the answers were taken up (None: they are taken up once, so
    that they are what the learner says now), `ref_logps` the reference's, `ref_states` [N, D] its last hidden states, `returns`
    and `old_values` the value model's.
    """

    advantages: Tensor
    sampled_logps: Tensor
    old_logps: Tensor | None = None
    ref_logps: Tensor | None = None
    ref_states: Tensor | None = None
    returns: Tensor | None = None
    old_values: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Penalties:
    """What is added to each token's loss: `kl` times the divergence from the reference, less `entropy` times the entropy.

    `estimator` says how the divergence is taken: from the sampled token (k1, k2, k3), or over the whole vocabulary.
    """

    kl: float = 0.0
    estimator: Estimator | None = "k3"
    entropy: float = 0.0
    value: float = 0.5
    value_clip: float = 0.2


@dataclass(frozen=True, slots=True)
class Reinforced(Part):
    """Rows of sampled answers. `weighed` is by row; `value_head` is there where a value model learns beside.

    What is reinforced is the distribution that was sampled from: at `temperature`, which divides logits, and so the states that
    they are linear in.
    """

    trees: Sequence[Tree]
    weighed: Sequence[Weighed]
    head: Head
    objective: Callable[[Samples], Losses]
    penalties: Penalties
    ref_head: Head | None = None
    value_head: nn.Linear | None = None
    temperature: float = 1.0
    name: str = "rl"
    coefficient: float = 1.0

    def totals(self, rows: Sequence[int]) -> Totals:
        """Count sampled tokens and answers."""
        return count(self.trees, rows)

    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the answers' losses, and the value model's."""
        hidden_ND = batch.predicting(hidden_BLD)
        tempered_ND = hidden_ND / self.temperature
        told = token_logps(tempered_ND, self.head, batch.targets_N)
        logps_AT, mask_AT = batch.by_answer(told.logps_N)

        def of(name: str) -> Tensor | None:
            values = [getattr(self.weighed[i], name) for i in rows]
            return None if values[0] is None else batch.by_answer(torch.cat(values).to(logps_AT.device))[0]

        sampled_AT, advantages_AT = (of(name) for name in ("sampled_logps", "advantages"))
        assert sampled_AT is not None
        assert advantages_AT is not None
        given_AT = of("old_logps")
        old_AT = logps_AT.detach() if given_AT is None else given_AT
        extra_AT = torch.zeros_like(logps_AT)
        ref_AT = of("ref_logps")
        if self.penalties.kl:
            if self.penalties.estimator is None:
                assert self.ref_head is not None
                ref_ND = torch.cat([self.weighed[i].ref_states for i in rows]).to(hidden_ND.device)  # type: ignore[misc]
                divergence_AT = batch.by_answer(
                    reverse_kl(tempered_ND, self.head, ref_ND / self.temperature, self.ref_head)
                )[0]
            else:
                assert ref_AT is not None
                divergence_AT = kl_loss(logps_AT, ref_AT, old_AT, self.penalties.estimator)
            extra_AT = extra_AT + self.penalties.kl * divergence_AT
        if self.penalties.entropy:
            # E[ratio * log p] over what was sampled is minus the entropy, gradient and all: k1 to a uniform reference.
            extra_AT = extra_AT + self.penalties.entropy * kl_loss(logps_AT, torch.zeros_like(logps_AT), old_AT, "k1")
        weights_AT = truncated_weights(old_AT, sampled_AT)
        samples = Samples(logps_AT, old_AT, advantages_AT, mask_AT, weights_AT, extra_AT)
        off_AT, kl_AT = mismatch(old_AT, sampled_AT)
        metrics = {
            "entropy": told.entropy_N,
            "mismatch": mean_of_answer(off_AT, samples),
            "mismatch_kl": mean_of_answer(kl_AT, samples),
        }
        if ref_AT is not None:
            # Of the model that sampled: of answers by another one the mean difference is no divergence.
            metrics["kl"] = masked_sum(old_AT - ref_AT, mask_AT)
        losses = [self.objective(samples).with_metrics(**metrics)]
        if self.value_head is not None:
            values_N = F.linear(hidden_ND.float(), self.value_head.weight.float(), self.value_head.bias).squeeze(-1)
            old_values_AT, returns_AT = of("old_values"), of("returns")
            assert old_values_AT is not None
            assert returns_AT is not None
            own = value(batch.by_answer(values_N)[0], old_values_AT, returns_AT, mask_AT, self.penalties.value_clip)
            losses.append(Losses(self.penalties.value * own.loss_B, own.unit, own.metrics))
        return losses
