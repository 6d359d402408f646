"""Anchored preference optimisation, down: where the chosen answers are worse than what the model says."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import sigmoid

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def apo_down(pairs: Pairs, beta: PositiveFloat = 0.1) -> Losses:
    r"""Return \sigma(\beta r(y_w)) + 1 - \sigma(\beta [r(y_w) - r(y_l)]) a pair, r(y) = \log p(y) - \log p_ref(y).

    Both answers become less likely, the rejected one more so. The denominator is the step's number of pairs. D'Oosterlinck et
    al., arXiv 2408.06266, eq. 8, plus 1.
    """
    chosen_B, rejected_B = beta * pairs.chosen_ratio, beta * pairs.rejected_ratio
    loss_B = sigmoid(chosen_B) + 1 - sigmoid(chosen_B - rejected_B)
    return Losses(loss_B, "example", pair_metrics(chosen_B, rejected_B))
