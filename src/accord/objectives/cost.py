"""Cost models: scores that rank answers by harm, and whose zero is the border between safe and unsafe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.objectives.bradley_terry import Ranked, bradley_terry
from accord.objectives.reduction import Losses

NEEDS = ("scores", "safe")


@dataclass(frozen=True, slots=True)
class Bordered:
    """The costs of a step's A answers, whether each is safe, and the number of its prompt. Fields have shape [A]."""

    cost_A: Tensor
    safe_A: Tensor
    prompt_A: Tensor


def cost(ranked: Ranked, bordered: Bordered) -> Losses:
    r"""Return the mean over a prompt's comparisons of -\log \sigma(C_w - C_l), and twice that of its answers' -\log \sigma(s C).

    `better` has the higher cost, that is the more harmful answer (the paper's y_w); s is -1 for a safe answer, +1 for an unsafe
    one. Dai et al. (Safe RLHF), arXiv 2310.12773, eq. 6, has both sides of each comparison in its second term: the same, where
    a prompt's answers are all compared, and a prompt of one answer, which was called safe or unsafe and compared with none, has
    its border too. The denominator is the step's number of prompts.
    """
    ranking = bradley_terry(ranked)
    signed_A = bordered.cost_A * (1 - 2 * bordered.safe_A.to(bordered.cost_A.dtype))
    n_E = torch.bincount(bordered.prompt_A, minlength=ranked.n_prompts)

    def mean(values_A: Tensor) -> Tensor:
        return values_A.new_zeros(ranked.n_prompts).index_add(0, bordered.prompt_A, values_A) / n_E

    right_E = mean((signed_A > 0).to(signed_A.dtype)).detach()
    return Losses(
        ranking.loss_B + 2 * mean(-F.logsigmoid(signed_A)), "example", {**ranking.metrics, "border_accuracy": right_E}
    )
