"""Cost models: scores that rank answers by harm, and whose zero is the border between safe and unsafe."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from accord.objectives.bradley_terry import Ranked, bradley_terry
from accord.objectives.reduction import Losses

NEEDS = ("scores", "safe")


def cost(ranked: Ranked, better_is_safe_P: Tensor, worse_is_safe_P: Tensor) -> Losses:
    r"""Return the mean over a prompt's comparisons of -\log \sigma(C_w - C_l) - \log \sigma(s_w C_w) - \log \sigma(s_l C_l).

    `better` has the higher cost, that is the more harmful answer (the paper's y_w); s is -1 for a safe answer, +1 for an unsafe
    one. The denominator is the step's number of prompts. Dai et al. (Safe RLHF), arXiv 2310.12773, eq. 6.
    """
    ranking = bradley_terry(ranked)
    sides = ((ranked.better_P, better_is_safe_P), (ranked.worse_P, worse_is_safe_P))
    signed = [cost_P * (1 - 2 * safe_P.to(cost_P.dtype)) for cost_P, safe_P in sides]
    border_P = sum((-F.logsigmoid(s_P) for s_P in signed), start=ranked.better_P.new_zeros(()))
    right_P = sum(((s_P > 0).to(s_P.dtype) / 2 for s_P in signed), start=ranked.better_P.new_zeros(()))
    metrics = {**ranking.metrics, "border_accuracy": ranked.mean(right_P.detach())}
    return Losses(ranking.loss_B + ranked.mean(border_P), "example", metrics)
