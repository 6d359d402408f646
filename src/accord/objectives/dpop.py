"""DPO-positive: DPO that is charged for making a chosen answer less likely."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def dpop(pairs: Pairs, beta: PositiveFloat = 0.1, penalty: NonNegativeFloat = 5.0) -> Losses:
    r"""Return -\log \sigma(\beta [\Delta - \lambda \max(0, \log p_ref(y_w) - \log p(y_w))]) a pair, \Delta as in DPO.

    `penalty` is \lambda. Against the fall of both answers' likelihoods that DPO allows where they differ little. The
    denominator is the step's number of pairs. Pal et al. (Smaug), arXiv 2402.13228, eq. 3.
    """
    fall_B = (-pairs.chosen_ratio).clamp_min(0)
    loss_B = -F.logsigmoid(beta * (pairs.delta - penalty * fall_B))
    return Losses(loss_B, "example", pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio))
