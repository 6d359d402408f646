"""Distillation: say what a teacher would, in all of its distribution."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("kl",)


def distillation(kl_BT: Tensor, mask_BT: Tensor) -> Losses:
    r"""Return \sum_t KL(p_teacher(. | c, x, y_<t) || p(. | x, y_<t)) an example, over the answer's tokens.

    `kl_BT` is the divergence over the full vocabulary at each position, in nats, left-aligned; `mask_BT` says which exist. With a
    teacher that is the same model under a context c (instructions, a policy) this is context distillation: the forward KL of
    Askell et al. (arXiv 2112.00861, §2.3). The denominator is the step's number of supervised tokens. `retain` differs in its
    weights only: there the first position counts as much as all later ones.
    """
    with torch.no_grad():
        mean_B = masked_sum(kl_BT, mask_BT) / mask_BT.sum(-1).clamp_min(1)
    return Losses(masked_sum(kl_BT, mask_BT), "token", {"kl": mean_B})
