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
    """Return the mean difference, without its sign, of the two probabilities of a sampled token: 0.02 is 2 points.

    A difference of probabilities, not of their logarithms: what is all but impossible for both has a ratio of any size.
    """
    apart_BT = (old_logps_BT.exp() - sampled_logps_BT.exp()).abs()
    return float(masked_sum(apart_BT, mask_BT).sum() / mask_BT.sum())
