"""Proximal policy optimisation, with an advantage for each token."""

from __future__ import annotations

from accord.objectives.policy_gradient import Clip, DualClip, Samples, clip_metrics, token_losses, token_mean
from accord.objectives.reduction import Losses

NEEDS = ("logps", "old_logps", "advantages", "values")
ADVANTAGES = None
KL_IN = "reward"


def ppo(samples: Samples, clip: Clip = 0.2, dual: DualClip | None = None) -> Losses:
    r"""Return -\min(\rho_t A_t, clip(\rho_t, 1 - \epsilon, 1 + \epsilon) A_t), \rho_t = p(y_t) / p_old(y_t).

    Advantages are `gae`'s; the penalty for leaving the reference is in their rewards, token by token, as in InstructGPT (Ouyang et
    al., arXiv 2203.02155, §3.5). The denominator is the step's number of tokens. Schulman et al., arXiv 1707.06347, eq. 7; `dual`
    is Ye et al.'s second clip (arXiv 1912.09729, eq. 5).
    """
    return token_mean(token_losses(samples, clip, clip, dual), samples, clip_metrics(samples, clip, clip))
