"""Anchored preference optimisation, zero: where the chosen answers are better than what the model says."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import sigmoid

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def apo_zero(pairs: Pairs, beta: PositiveFloat = 0.1) -> Losses:
    r"""Return 1 - \sigma(\beta r(y_w)) + \sigma(\beta r(y_l)) a pair, r(y) = \log p(y) - \log p_ref(y).

    The chosen answer becomes likelier and the rejected one less likely, each against the reference and not against the other.
    The denominator is the step's number of pairs. D'Oosterlinck et al., arXiv 2408.06266, eq. 7, plus 1.
    """
    chosen_B, rejected_B = beta * pairs.chosen_ratio, beta * pairs.rejected_ratio
    return Losses(1 - sigmoid(chosen_B) + sigmoid(rejected_B), "example", pair_metrics(chosen_B, rejected_B))
