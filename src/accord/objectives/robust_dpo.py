"""DPO whose gradient is unbiased when labels are flipped at a known rate."""

from __future__ import annotations

from torch.nn import functional as F

from accord.errors import AccordError
from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def robust_dpo(pairs: Pairs, beta: float = 0.1, label_error: float = 0.1) -> Losses:
    r"""Return [-(1 - e) \log \sigma(\beta \Delta) + e \log \sigma(-\beta \Delta)] / (1 - 2 e) a pair, \Delta as in DPO.

    e is the share of flipped labels. The loss's expectation over the flips is DPO's on the true labels. It can be negative, and
    has no lower bound: a pair that is far on the wrong side is pushed further. The denominator is the step's number of pairs. Ray
    Chowdhury et al., arXiv 2403.00409, eq. 12.

    Raises:
        AccordError: `label_error` is not in [0, 1/2).
    """
    if not 0 <= label_error < 0.5:
        raise AccordError(f"robust_dpo needs a label_error of at least 0 and below 0.5, not {label_error}")
    margin_B = beta * pairs.delta
    loss_B = -(1 - label_error) * F.logsigmoid(margin_B) + label_error * F.logsigmoid(-margin_B)
    metrics = pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio)
    return Losses(loss_B / (1 - 2 * label_error), "example", metrics)
