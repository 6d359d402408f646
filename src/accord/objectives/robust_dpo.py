"""DPO whose gradient is unbiased when labels are flipped at a known rate."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import LabelError, Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def robust_dpo(pairs: Pairs, beta: PositiveFloat = 0.1, label_error: LabelError = 0.1) -> Losses:
    r"""Return [-(1 - e) \log \sigma(\beta \Delta) + e \log \sigma(-\beta \Delta)] / (1 - 2 e) a pair, \Delta as in DPO.

    e is the share of flipped labels. The loss's expectation over the flips is DPO's on the true labels. It can be negative, and
    has no lower bound: a pair that is far on the wrong side is pushed further. The denominator is the step's number of pairs. Ray
    Chowdhury et al., arXiv 2403.00409, eq. 12.
    """
    margin_B = beta * pairs.delta
    loss_B = -(1 - label_error) * F.logsigmoid(margin_B) + label_error * F.logsigmoid(-margin_B)
    metrics = pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio)
    return Losses(loss_B / (1 - 2 * label_error), "example", metrics)
