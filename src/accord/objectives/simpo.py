"""Simple preference optimisation: no reference, and log-probabilities a token."""

from __future__ import annotations

from pydantic import NonNegativeFloat, PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps",)


def simpo(pairs: Pairs, beta: PositiveFloat = 2.0, gamma: NonNegativeFloat = 1.0) -> Losses:
    r"""Return -\log \sigma(\beta \log p(y_w) / |y_w| - \beta \log p(y_l) / |y_l| - \gamma) a pair.

    `gamma` is the margin in units of reward; TRL asks for the same number. The denominator is the step's number of pairs. Meng et
    al., arXiv 2405.14734, eq. 6.
    """
    chosen_B = beta * pairs.chosen_B / pairs.n_chosen_B
    rejected_B = beta * pairs.rejected_B / pairs.n_rejected_B
    return Losses(-F.logsigmoid(chosen_B - rejected_B - gamma), "example", pair_metrics(chosen_B, rejected_B))
