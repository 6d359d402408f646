"""The hinge on DPO's margin: pairs that are told apart well enough no longer pull."""

from __future__ import annotations

from pydantic import PositiveFloat

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def hinge(pairs: Pairs, beta: PositiveFloat = 0.1) -> Losses:
    r"""Return \max(0, 1 - \beta \Delta) a pair, \Delta as in DPO.

    SLiC's calibration loss (Zhao et al., arXiv 2305.10425, eq. 1) on log-ratios, as in RSO (Liu et al., arXiv 2309.06657, §4). The
    denominator is the step's number of pairs.
    """
    loss_B = (1 - beta * pairs.delta).clamp_min(0)
    return Losses(loss_B, "example", pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio))
