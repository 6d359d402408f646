"""The engine that sampled and the model that learns are not the same arithmetic: how far apart they are, and the correction.

Merged weights, another kernel or a server give an answer's tokens slightly other probabilities than the learner's forward pass.
Shapes [B, T].
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import masked_sum


@torch.no_grad()
def truncated_weights(old_logps_BT: Tensor, sampled_logps_BT: Tensor, most: float = 2.0) -> Tensor:
    r"""Return \min(p_learner(y_t) / p_engine(y_t), most), without gradient.

    Truncating keeps one unlikely token's weight from drowning all others, at the price of a bias. Yao et al., "Your efficient RL
    framework secretly brings you off-policy RL training", 2025, §3.
    """
    return (old_logps_BT - sampled_logps_BT).exp().clamp_max(most)


@torch.no_grad()
def mismatch(old_logps_BT: Tensor, sampled_logps_BT: Tensor, mask_BT: Tensor) -> float:
    r"""Return the mean over the tokens of `token_mismatch`: what share of the probability the two put elsewhere."""
    return float(masked_sum(token_mismatch(old_logps_BT, sampled_logps_BT), mask_BT).sum() / mask_BT.sum())


@torch.no_grad()
def token_mismatch(old_logps: Tensor, sampled_logps: Tensor) -> Tensor:
    r"""Return |p_learner / p_engine - 1| / 2 of each sampled token, any shape.

    Its mean over what the engine samples is the total variation of the two distributions, 1/2 \sum_y |p_learner(y) - p_engine(y)|.
    """
    return ((old_logps - sampled_logps).exp() - 1).abs() / 2
