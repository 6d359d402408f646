"""The retain term: stay with the base model where nothing is to change."""

from __future__ import annotations

from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("kl",)


def retain(kl_BT: Tensor, mask_BT: Tensor) -> Losses:
    r"""Return KL_1 + mean_{t > 1} KL_t an example, KL_t = KL(p_base(. | x, y_<t) || p(. | x, y_<t)).

    `kl_BT` is the divergence over the full vocabulary at each position of an answer, in nats, left-aligned; `mask_BT` says
    which exist. The first position, where a model decides whether to refuse, counts as much as all later ones together. The
    forward direction keeps all that the base model would say, instead of imitating one written answer.
    """
    rest_B = masked_sum(kl_BT[:, 1:], mask_BT[:, 1:]) / mask_BT[:, 1:].sum(-1).clamp_min(1)
    loss_B = masked_sum(kl_BT[:, :1], mask_BT[:, :1]) + rest_B
    return Losses(loss_B, "example", {"kl": loss_B.detach()})
