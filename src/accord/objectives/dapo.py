"""DAPO's token-level loss: every token weighs as much, and what was unlikely may become likely faster than the reverse."""

from __future__ import annotations

from accord.objectives.advantages import grpo_advantages
from accord.objectives.policy_gradient import Clip, ClipHigh, Samples, clip_metrics, token_losses, token_mean
from accord.objectives.reduction import Losses

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = grpo_advantages
KL_IN = "loss"


def dapo(samples: Samples, clip: Clip = 0.2, clip_high: ClipHigh = 0.28) -> Losses:
    r"""Return -\min(\rho_t A, clip(\rho_t, 1 - \epsilon_{low}, 1 + \epsilon_{high}) A) a token.

    The denominator is the step's number of tokens. Advantages are `grpo_advantages`. Yu et al., arXiv 2503.14476, eq. 8; of
    its loop, a penalty for answers that the limit cut is there (`--cut-penalty`), sampling until every group differs is not.
    """
    return token_mean(token_losses(samples, clip, clip_high), samples, clip_metrics(samples, clip, clip_high))
