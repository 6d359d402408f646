"""Contrastive preference optimisation: DPO with a uniform reference, held by imitation."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps",)


def cpo(pairs: Pairs, beta: PositiveFloat = 0.1, weight: NonNegativeFloat = 1.0) -> Losses:
    r"""Return -\log \sigma(\beta [\log p(y_w) - \log p(y_l)]) - \lambda \log p(y_w) / |y_w| a pair; `weight` is \lambda.

    Xu et al., arXiv 2401.08417, eq. 5, where the imitated term sums over tokens. Here it is a mean over them, so that `weight`
    means the same for answers of any length. The denominator is the step's number of pairs.
    """
    nll_B = -pairs.chosen_B / pairs.n_chosen_B
    loss_B = -F.logsigmoid(beta * (pairs.chosen_B - pairs.rejected_B)) + weight * nll_B
    metrics = {**pair_metrics(beta * pairs.chosen_B, beta * pairs.rejected_B), "nll": nll_B.detach()}
    return Losses(loss_B, "example", metrics)
