"""Generalised advantage estimation: how much better each token was than a value model expected."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.objectives.reduction import masked_sum

NEEDS = ("values",)


@dataclass(frozen=True, slots=True)
class Estimated:
    """Advantages, and the returns that the value model is to learn. Both [B, T], 0 where there is no token."""

    advantages_BT: Tensor
    returns_BT: Tensor


@torch.no_grad()
def gae(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, discount: float = 1.0, decay: float = 0.95
) -> Estimated:
    r"""Return A_t = \sum_k (\gamma \lambda)^k \delta_{t+k}, \delta_t = r_t + \gamma V_{t+1} - V_t, and returns A_t + V_t.

    `values_BT` holds V before each token is said. After an answer's last token nothing follows, whether it ended or was cut:
    V = 0. With `decay` 1 and `discount` 1 an advantage is what is still to come less V_t. Schulman et al., arXiv 1506.02438,
    eq. 16. Left-aligned, [B, T]; what stands outside the mask is never read.
    """
    rewards_BT, values_BT = (torch.where(mask_BT, x, 0.0) for x in (rewards_BT, values_BT))
    advantages_BT = torch.zeros_like(values_BT)
    following_B = next_value_B = values_BT.new_zeros(len(values_BT))
    for t in reversed(range(values_BT.shape[1])):
        # Outside the mask both are 0, so that an answer's last token finds nothing after it.
        following_B = rewards_BT[:, t] + discount * next_value_B - values_BT[:, t] + discount * decay * following_B
        following_B = torch.where(mask_BT[:, t], following_B, 0.0)
        advantages_BT[:, t], next_value_B = following_B, values_BT[:, t]
    return Estimated(advantages_BT, advantages_BT + values_BT)


def whitened(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return values less their mean, over their deviation (n - 1), both of all tokens that exist; 0 where all are the same."""
    n = mask_BT.sum()
    mean = masked_sum(values_BT, mask_BT).sum() / n
    centred_BT = torch.where(mask_BT, values_BT - mean, 0.0)
    deviation = (centred_BT.square().sum() / (n - 1).clamp_min(1)).sqrt()
    return torch.zeros_like(centred_BT) if deviation == 0 else centred_BT / deviation
