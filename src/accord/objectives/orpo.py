"""Odds-ratio preference optimisation: imitation and preference in one, without a reference."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.nn import functional as F

from accord.objectives.pairs import Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps",)


def orpo(pairs: Pairs, weight: PositiveFloat = 0.1) -> Losses:
    r"""Return -\log p(y_w) / |y_w| - \lambda \log \sigma(\log odds(y_w) - \log odds(y_l)) a pair.

    odds(y) = P / (1 - P) with P = \exp(\log p(y) / |y|), and `weight` is \lambda. The imitated term is a mean over each answer's
    own tokens (the paper's eq. 2 and 6), not over the batch's. The denominator is the step's number of pairs. Hong et al., arXiv
    2403.07691, eq. 6 and 7.
    """
    chosen_B, rejected_B = pairs.chosen_B / pairs.n_chosen_B, pairs.rejected_B / pairs.n_rejected_B
    loss_B = -chosen_B - weight * F.logsigmoid(_log_odds(chosen_B) - _log_odds(rejected_B))
    metrics = {**pair_metrics(weight * chosen_B, weight * rejected_B), "nll": -chosen_B.detach()}
    return Losses(loss_B, "example", metrics)


def _log_odds(logp_B: Tensor) -> Tensor:
    # log(1 - exp(x)) for x < 0; an answer of probability 1 would have infinite odds, and its gradient no value.
    below_B = logp_B.clamp_max(-torch.finfo(logp_B.dtype).eps)
    return logp_B - torch.log(-torch.expm1(below_B))
