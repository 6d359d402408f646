"""REINFORCE on whole answers, with the other answers to the same prompt as baseline."""

from __future__ import annotations

from accord.objectives.advantages import rloo_advantages
from accord.objectives.policy_gradient import Samples, corrected, mean_of_answer
from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = rloo_advantages
KL_IN = "reward"
HAS_RATIO = False


def rloo(samples: Samples) -> Losses:
    r"""Return -A \log p(y), summed over an answer's tokens, A held fixed.

    An answer is one action: no ratio and no clip, so that a batch is taken up once. Advantages are `rloo_advantages` (or
    `reinforce_plus_plus_advantages`). Its value says nothing, its gradient is the policy gradient. The denominator is the step's
    number of answers. Ahmadian et al., arXiv 2402.14740, §2.
    """
    loss_BT = corrected(-samples.advantage[:, None] * samples.logps_BT, samples)
    metrics = {"ratio": mean_of_answer(samples.log_ratio.detach(), samples).exp()}
    return Losses(masked_sum(loss_BT, samples.mask_BT), "example", metrics)
