"""The onset term: where a model decides what kind of answer it gives."""

from __future__ import annotations

from torch import Tensor

from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("set_logps", "logps")


def onset(set_logps_B: Tensor, logps_BT: Tensor, mask_BT: Tensor) -> Losses:
    r"""Return -log \sum_{v in S} p(v | x) - mean_{1 < t <= T} log p(y_t | x, y_<t) an example.

    `set_logps_B` is the log-probability that an answer's first token is one of the set S of tokens with which such answers
    begin. Which of them it is stays open, so that the decision ("refuse or not") is learned and not one wording of it.
    `logps_BT` are those of the answer's first T tokens, left-aligned; `mask_BT` says which exist. Tokens after the first decide
    as well ("I'm" goes on with "glad" or with "not"), and have the weight that `retain` gives their like.
    """
    rest_B = masked_sum(logps_BT[:, 1:], mask_BT[:, 1:]) / mask_BT[:, 1:].sum(-1).clamp_min(1)
    loss_B = -set_logps_B - rest_B
    return Losses(loss_B, "example", {"onset_nll": -set_logps_B.detach()})
