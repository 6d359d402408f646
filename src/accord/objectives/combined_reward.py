"""Two reward models, one number: Llama 2's combination of safety and helpfulness."""

from __future__ import annotations

import torch
from torch import Tensor

SAFETY_THRESHOLD = 0.15


def piecewise(
    safety_S: Tensor, helpfulness_S: Tensor, is_safety_S: Tensor, threshold: float = SAFETY_THRESHOLD
) -> Tensor:
    r"""Return R_s where the prompt asks for safety or R_s < threshold, else R_h; whitened in logits.

    Both rewards are logits of a preference model; the paper compares \sigma(R_s) with 0.15, the threshold at which unsafe answers
    had a precision of 0.89 and a recall of 0.55. What it whitens are these logits again: less their mean over the batch, over their
    deviation (n - 1). Both count on one scale, and are to be brought to it before. All rewards the same give 0. Shapes [S].
    Touvron et al., arXiv 2307.09288, §3.2.3.
    """
    guarded_S = is_safety_S | (torch.sigmoid(safety_S) < threshold)
    chosen_S = torch.where(guarded_S, safety_S, helpfulness_S)
    if bool((chosen_S == chosen_S[0]).all()):
        return torch.zeros_like(chosen_S)
    return (chosen_S - chosen_S.mean()) / chosen_S.std()
