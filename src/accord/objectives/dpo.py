"""Direct preference optimisation."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def dpo(pairs: Pairs, beta: PositiveFloat = 0.1) -> Losses:
    r"""Return -\log \sigma(\beta [(\log p(y_w) - \log p_ref(y_w)) - (\log p(y_l) - \log p_ref(y_l))]) a pair.

    Where model and reference agree the loss is ln 2. The denominator is the step's number of pairs. Rafailov et al., arXiv
    2305.18290, eq. 7.
    """
    metrics = pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio)
    return Losses(-F.logsigmoid(beta * pairs.delta), "example", metrics)
