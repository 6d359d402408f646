"""The retain term: stay with the base model where nothing is to change."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("kl",)


def retain(kl_BT: Tensor, mask_BT: Tensor, onset_weight: float = 1.0) -> Losses:
    r"""Return \sum_t w_t KL(p_base(. | x, y_<t) || p(. | x, y_<t)) an example, over an answer's positions.

    `kl_BT` is the divergence over the full vocabulary at each position, in nats; weights, mask and denominator as in `sft`. The
    forward direction keeps all that the base model would say, instead of imitating one written answer.
    """
    weights_T = torch.ones(kl_BT.shape[1], dtype=kl_BT.dtype, device=kl_BT.device)
    weights_T[:1] = onset_weight
    with torch.no_grad():
        kl_B = masked_sum(kl_BT, mask_BT) / mask_BT.sum(-1).clamp_min(1)
    return Losses(masked_sum(kl_BT * weights_T, mask_BT), "token", {"kl": kl_B})
