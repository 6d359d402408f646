"""DPO with uncertain labels: conservative (one error rate for all) or with a preference probability a pair."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch.nn import functional as F

from accord.objectives.pairs import LabelError, Pairs, pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps", "preference")


def soft_dpo(pairs: Pairs, beta: PositiveFloat = 0.1, label_error: LabelError = 0.1) -> Losses:
    r"""Return -q \log \sigma(\beta \Delta) - (1 - q) \log \sigma(-\beta \Delta) a pair, \Delta as in DPO.

    q is the pair's preference probability, and 1 - `label_error` for a pair without one. The minimum is a margin of the logit of q,
    no longer infinite. The denominator is the step's number of pairs. Mitchell, "A note on DPO with noisy preferences and
    relationship to IPO" (2023), eq. 3.
    """
    margin_B = beta * pairs.delta
    q = torch.full_like(margin_B, 1 - label_error)
    if pairs.preference_B is not None:
        q = torch.where(pairs.preference_B.isnan(), q, pairs.preference_B)
    loss_B = -q * F.logsigmoid(margin_B) - (1 - q) * F.logsigmoid(-margin_B)
    return Losses(loss_B, "example", pair_metrics(beta * pairs.chosen_ratio, beta * pairs.rejected_ratio))
