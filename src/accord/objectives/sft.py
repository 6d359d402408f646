"""Supervised fine-tuning: the answer's negative log-likelihood."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("logps",)


def sft(logps_BT: Tensor, mask_BT: Tensor, onset_weight: float = 1.0) -> Losses:
    r"""Return -\sum_t w_t log p(y_t | x, y_<t) an example, over the answer's tokens only.

    `logps_BT` are log-probabilities of the answer's tokens, left-aligned; `mask_BT` says which exist. `w_t` is 1, but
    `onset_weight` for an answer's first token, where a model decides whether to refuse. The denominator is the step's number
    of supervised tokens ("token" unit), as in a cross-entropy over the concatenated answers (InstructGPT, arXiv 2203.02155, §3.5).
    """
    weights_T = torch.ones(logps_BT.shape[1], dtype=logps_BT.dtype, device=logps_BT.device)
    weights_T[:1] = onset_weight
    n_tokens_B = mask_BT.sum(-1)
    with torch.no_grad():
        nll_B = -masked_sum(logps_BT, mask_BT) / n_tokens_B.clamp_min(1)
        onset_B = -logps_BT[:, 0]
    return Losses(-masked_sum(logps_BT * weights_T, mask_BT), "token", {"nll": nll_B, "onset_nll": onset_B})
