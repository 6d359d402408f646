r"""How far the model has gone from a reference, estimated from the tokens that it sampled. Shapes [B, T].

With x = \log p(y) - \log p_ref(y) of a sampled token: k1 = x, k2 = x^2 / 2, k3 = e^{-x} - 1 + x (Schulman, "Approximating KL
divergence", 2020). In expectation over the model's own samples k1 and k3 are KL(p || p_ref); k2 is not, but close.

As a loss their gradients are another matter: the samples depend on the model too. k1's expected gradient is 0; k2's is the
gradient of KL(p || p_ref); k3's, as GRPO was published, is that of KL(p_ref || p). Weighted with the ratio of the model to what
sampled, as DeepSeek-V3.2 does (arXiv 2512.02556, §3.1), k1 and k3 have the gradient of KL(p || p_ref) itself. In the reward, where
no gradient passes, k1 is the right one. The tests hold each against enumeration.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Estimator = Literal["k1", "k2", "k3"]


def kl_estimate(logps: Tensor, ref_logps: Tensor, estimator: Estimator = "k3") -> Tensor:
    """Return the estimate at each sampled token, in nats; any shape."""
    x = logps - ref_logps
    if estimator == "k1":
        return x
    return x.square() / 2 if estimator == "k2" else torch.expm1(-x) + x


def kl_loss(logps: Tensor, ref_logps: Tensor, old_logps: Tensor, estimator: Estimator = "k3") -> Tensor:
    """Return the estimate times the ratio of the model to what sampled; its expected gradient is that of KL(p || p_ref).

    k2's, whose plain gradient is that already, is returned without the ratio.
    """
    estimate = kl_estimate(logps, ref_logps, estimator)
    return estimate if estimator == "k2" else (logps - old_logps).exp() * estimate


def kl_full(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Return KL(p || p_ref) over the whole vocabulary at each position, in nats. Shapes [..., V] -> [...]."""
    logps, ref_logps = F.log_softmax(logits, -1), F.log_softmax(ref_logits, -1)
    return (logps.exp() * (logps - ref_logps)).sum(-1)
