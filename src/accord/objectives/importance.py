"""The engine that sampled and the model that learns are not the same arithmetic: how far apart they are, and the correction.

Merged weights, another kernel or a server give an answer's tokens slightly other probabilities than the learner's forward pass.
Shapes [B, T].
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.kl import kl_estimate


@torch.no_grad()
def truncated_weights(old_logps_BT: Tensor, sampled_logps_BT: Tensor, most: float = 2.0) -> Tensor:
    r"""Return \min(p_learner(y_t) / p_engine(y_t), most), without gradient.

    Truncating keeps one unlikely token's weight from drowning all others, at the price of a bias. Yao et al., "Your efficient RL
    framework secretly brings you off-policy RL training", 2025, §3.
    """
    return (old_logps_BT - sampled_logps_BT).exp().clamp_max(most)


@torch.no_grad()
def mismatch(old_logps: Tensor, sampled_logps: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return, of each sampled token, |p_learner - p_engine| and \rho - 1 - \log \rho with \rho = p_learner / p_engine; any shape.

    The mean of the first is how far the probability of what was sampled is off. Where a model spreads its probability over many
    tokens it stays small whatever happens; the mean of the second is KL(engine || learner) in nats, which does not. Numbers in bf16
    alone make some 0.01 and 0.001 of them (docs/log.md).
    """
    return (old_logps.exp() - sampled_logps.exp()).abs(), kl_estimate(sampled_logps, old_logps)
