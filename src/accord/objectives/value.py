"""The value model's loss: what is still to come, expected before each token."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("values",)


def value(values_BT: Tensor, old_values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor, clip: float = 0.2) -> Losses:
    r"""Return \max((V - R)^2, (clip(V, V_old - \epsilon, V_old + \epsilon) - R)^2) / 2 a token.

    The clip is that of PPO's reference code (OpenAI baselines, `ppo2`), not of the paper: a value may leave the one that made the
    advantages by so much a batch. An infinite `clip` is the plain squared error. The denominator is the step's number of tokens.
    """
    near_BT = old_values_BT + (values_BT - old_values_BT).clamp(-clip, clip)
    loss_BT = torch.maximum((values_BT - returns_BT).square(), (near_BT - returns_BT).square()) / 2
    with torch.no_grad():
        error_B = masked_sum((values_BT - returns_BT).square(), mask_BT) / mask_BT.sum(-1).clamp_min(1)
    return Losses(masked_sum(loss_BT, mask_BT), "token", {"value_error": error_B})
