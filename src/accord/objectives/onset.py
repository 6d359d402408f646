"""The onset term: where a model decides what kind of answer it gives."""

from __future__ import annotations

from torch import Tensor

from accord.objectives.reduction import Losses

NEEDS = ("set_logps",)


def onset(set_logps_B: Tensor) -> Losses:
    r"""Return -log \sum_{v in S} p(v | x) an example: that the answer begins as answers of its kind do.

    `set_logps_B` is the log-probability that an answer's first token is one of the set S of tokens with which such answers
    begin. Which of them it is stays open, so that the decision ("refuse or not") is learned and not one wording of it.
    """
    return Losses(-set_logps_B, "example", {"onset_nll": -set_logps_B.detach()})
