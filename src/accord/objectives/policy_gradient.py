"""What the losses of reinforcement learning see and share: the ratio to the model that sampled, the clip, the aggregation.

Each loss's module says beside it, as its paper has it, how an answer is weighed (`ADVANTAGES`; None: token by token, by a value
model), where the penalty for leaving the reference stands (`KL_IN`: the reward or the loss), and, where it has none, that there is
no ratio to the model which sampled (`HAS_RATIO`).

Shapes: B answers, T tokens, left-aligned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from accord.objectives.kl import kl_estimate
from accord.objectives.reduction import Losses, masked_sum

KLPlace = Literal["reward", "loss"]
# How far a ratio may leave 1 before its gradient stops, downwards (or both ways) and upwards; PPO's second clip.
Clip = Annotated[float, Field(gt=0, lt=1)]
ClipHigh = Annotated[float, Field(gt=0)]
DualClip = Annotated[float, Field(gt=1)]


@dataclass(frozen=True, slots=True)
class Samples:
    """B answers that the model sampled, and how good each token was. Every field has shape [B, T].

    `old_logps_BT` are the model's own log-probabilities when the answers were taken up, as the learner computes them, so that the
    first step's ratio is exactly 1. `weights_BT` correct for an engine that sampled from a slightly other distribution
    (`importance`); None is 1. `extra_BT` is added to each token's loss: a KL penalty, less an entropy bonus.
    """

    logps_BT: Tensor
    old_logps_BT: Tensor
    advantages_BT: Tensor
    mask_BT: Tensor
    weights_BT: Tensor | None = None
    extra_BT: Tensor | None = None

    @property
    def log_ratio(self) -> Tensor:
        """Log of the model's probability over that of the model which sampled; 0 where there is no token."""
        return torch.where(self.mask_BT, self.logps_BT - self.old_logps_BT, 0.0)

    @property
    def n_tokens(self) -> Tensor:
        """Number of tokens an answer."""
        return self.mask_BT.sum(-1)

    @property
    def advantage(self) -> Tensor:
        """The advantage of a whole answer, for losses that know no others: that of its first token."""
        return self.advantages_BT[:, 0]


def clipped(ratio: Tensor, advantage: Tensor, low: float, high: float, dual: float | None = None) -> Tensor:
    r"""Return -\min(\rho A, clip(\rho, 1 - low, 1 + high) A), any shape (Schulman et al., arXiv 1707.06347, eq. 7).

    `dual` c > 1 bounds the loss where A < 0 to -c A (Ye et al., arXiv 1912.09729, eq. 5): else one token that has become far
    likelier than when it was sampled outweighs all others.
    """
    gain = torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)
    if dual is not None:
        gain = torch.where(advantage < 0, torch.maximum(gain, dual * advantage), gain)
    return -gain


@torch.no_grad()
def stopped(ratio: Tensor, advantage: Tensor, low: float, high: float) -> Tensor:
    """Return where the clip stops the gradient, as 0 and 1 of the ratio's type; any shape."""
    return torch.where(advantage > 0, ratio > 1 + high, (ratio < 1 - low) & (advantage < 0)).to(ratio.dtype)


def token_losses(samples: Samples, low: float, high: float, dual: float | None = None) -> Tensor:
    """Return each token's clipped loss, corrected for the engine and with what is added to it. Shape [B, T]."""
    return corrected(clipped(samples.log_ratio.exp(), samples.advantages_BT, low, high, dual), samples)


def corrected(loss_BT: Tensor, samples: Samples) -> Tensor:
    """Return each token's loss, corrected for the engine and with what is added to it. Shape [B, T]."""
    if samples.weights_BT is not None:
        loss_BT = samples.weights_BT * loss_BT
    return loss_BT if samples.extra_BT is None else loss_BT + samples.extra_BT


def mean_of_answer(values_BT: Tensor, samples: Samples) -> Tensor:
    """Return each answer's mean over its tokens. Shape [B]."""
    return masked_sum(values_BT, samples.mask_BT) / samples.n_tokens.clamp_min(1)


def token_mean(loss_BT: Tensor, samples: Samples, metrics: Mapping[str, Tensor]) -> Losses:
    """Aggregate so that every token of the step weighs as much: the sum over the step's tokens, over their number."""
    return Losses(masked_sum(loss_BT, samples.mask_BT), "token", metrics)


def answer_mean(loss_BT: Tensor, samples: Samples, metrics: Mapping[str, Tensor]) -> Losses:
    """Aggregate so that every answer weighs as much: the mean over its tokens, then over the step's answers."""
    return Losses(mean_of_answer(loss_BT, samples), "example", metrics)


@torch.no_grad()
def clip_metrics(samples: Samples, low: float, high: float) -> dict[str, Tensor]:
    """Return, an answer, the share of tokens where the clip stops the gradient, and the KL to the model that sampled (k3)."""
    return {
        "clipped": mean_of_answer(stopped(samples.log_ratio.exp(), samples.advantages_BT, low, high), samples),
        "kl_to_old": mean_of_answer(kl_estimate(samples.old_logps_BT, samples.logps_BT), samples),
    }
