"""Kahneman-Tversky optimisation: answers that are each marked good or bad, without pairs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from accord.errors import AccordError
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def kto(
    logps_B: Tensor,
    ref_logps_B: Tensor,
    desirable_B: Tensor,
    baseline: Tensor,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Losses:
    r"""Return \lambda_D [1 - \sigma(\beta (r - z))] for a desirable answer, \lambda_U [1 - \sigma(\beta (z - r))] for another.

    r = \log p(y) - \log p_ref(y), summed over an answer's tokens; z is `kl_baseline` of the whole step, so that no split of a
    step changes it. The denominator is the step's number of answers. Ethayarajh et al., arXiv 2402.01306, eq. 8.
    """
    ratio_B = logps_B - ref_logps_B
    sign_B = torch.where(desirable_B, 1.0, -1.0).to(ratio_B.dtype)
    weight_B = torch.where(desirable_B, desirable_weight, undesirable_weight).to(ratio_B.dtype)
    loss_B = weight_B * (1 - torch.sigmoid(beta * sign_B * (ratio_B - baseline)))
    reward_B = beta * ratio_B.detach()
    return Losses(
        loss_B, "example", {"desirable_reward": reward_B[desirable_B], "undesirable_reward": reward_B[~desirable_B]}
    )


def kl_baseline(logps_B: Tensor, ref_logps_B: Tensor) -> Tensor:
    """Return the estimate of KL(model || reference) from answers that belong to other prompts, at least 0. No gradient.

    It is biased and high in variance: a level to compare with, not a measurement. Section 4.1 of the paper.
    """
    return (logps_B.detach() - ref_logps_B).mean().clamp_min(0)


def mismatched(prompts: Sequence[Hashable]) -> list[int]:
    """Return, for each row, another row whose answer stands in for one that does not belong to its prompt.

    A permutation in which no row keeps its own answer, nor gets one of another row with the same prompt.

    Raises:
        AccordError: there is none, because more than half of the rows have one prompt (a single row among them).
    """
    rows_of: dict[Hashable, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows_of.setdefault(prompt, []).append(row)
    order = [row for rows in rows_of.values() for row in rows]
    largest = max(map(len, rows_of.values()), default=0)
    if 2 * largest > len(prompts):
        raise AccordError(
            f"KTO compares with answers to other prompts, but {largest} of {len(prompts)} rows have the same prompt"
        )
    partner = [0] * len(prompts)
    # Rows of one prompt stand together; a shift by the largest such group leaves every group.
    for place, row in enumerate(order):
        partner[row] = order[(place + largest) % len(order)]
    return partner
