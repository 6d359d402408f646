"""Supervised fine-tuning: the answer's negative log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("logps",)


def sft(logps_BT: Tensor, mask_BT: Tensor) -> Losses:
    r"""Return -\sum_t log p(y_t | x, y_<t) an example, over the answer's tokens only.

    `logps_BT` are log-probabilities of the answer's tokens, left-aligned; `mask_BT` says which exist. The denominator is the
    step's number of supervised tokens ("token" unit), as in a cross-entropy over the concatenated answers (InstructGPT, arXiv
    2203.02155, §3.5).
    """
    with torch.no_grad():
        nll_B = -masked_sum(logps_BT, mask_BT) / mask_BT.sum(-1).clamp_min(1)
    return Losses(-masked_sum(logps_BT, mask_BT), "token", {"nll": nll_B})
