"""DPO on log-ratios a token, so that a long answer weighs no more than a short one."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def dpo_norm(pairs: Pairs, beta: PositiveFloat = 5.0) -> Losses:
    r"""Return -\log \sigma(\beta [r(y_w) / |y_w| - r(y_l) / |y_l|]) a pair, r(y) = \log p(y) - \log p_ref(y).

    `beta` stands before a mean and is an order of magnitude above DPO's. The denominator is the step's number of pairs. Lambert
    et al. (Tulu 3), arXiv 2411.15124, eq. 6.
    """
    chosen_B = beta * pairs.chosen_ratio / pairs.n_chosen_B
    rejected_B = beta * pairs.rejected_ratio / pairs.n_rejected_B
    return Losses(-F.logsigmoid(chosen_B - rejected_B), "example", pair_metrics(chosen_B, rejected_B))
