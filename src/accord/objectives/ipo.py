"""Identity preference optimisation: a margin to be met, not to be grown without end."""

from __future__ import annotations

from pydantic import PositiveFloat

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def ipo(pairs: Pairs, beta: PositiveFloat = 0.1) -> Losses:
    r"""Return (h - 1 / (2 \beta))^2 a pair, h the difference of the two log-ratios, each a mean over its answer's tokens.

    Equation 17 of Azar et al. (arXiv 2310.12036), whose \tau is `beta`, has log-ratios of whole answers. Summed over tokens the
    target 1 / (2 \beta) would be the same for an answer of 5 tokens and of 500, and the squared error would grow with length;
    the authors told TRL's that their own results used the mean, and so does Accord, as TRL does. The denominator is the step's
    number of pairs.
    """
    loss_B = (pairs.mean_delta - 1 / (2 * beta)) ** 2
    metrics = pair_metrics(
        beta * pairs.chosen_ratio / pairs.n_chosen_B, beta * pairs.rejected_ratio / pairs.n_rejected_B
    )
    return Losses(loss_B, "example", metrics)
