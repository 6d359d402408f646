"""REINFORCE++: PPO's loss without a value model, advantages in units of the whole batch's deviation."""

from __future__ import annotations

from accord.objectives.advantages import reinforce_plus_plus_advantages
from accord.objectives.policy_gradient import Clip, Samples, clip_metrics, token_losses, token_mean
from accord.objectives.reduction import Losses

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = reinforce_plus_plus_advantages
KL_IN = "reward"


def reinforce_plus_plus(samples: Samples, clip: Clip = 0.2) -> Losses:
    r"""Return -\min(\rho_t A, clip(\rho_t, 1 - \epsilon, 1 + \epsilon) A).

    An answer's advantage stands at each of its tokens; the penalty for leaving the reference is in the reward. The denominator is
    the step's number of tokens. Hu et al., arXiv 2501.03262.
    """
    return token_mean(token_losses(samples, clip, clip), samples, clip_metrics(samples, clip, clip))
