"""Group-relative policy optimisation: answers weighed against the others to their prompt, without a value model."""

from __future__ import annotations

from accord.objectives.advantages import grpo_advantages
from accord.objectives.policy_gradient import Clip, Samples, answer_mean, clip_metrics, token_losses
from accord.objectives.reduction import Losses

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = grpo_advantages
KL_IN = "loss"


def grpo(samples: Samples, clip: Clip = 0.2) -> Losses:
    r"""Return the mean over an answer's tokens of -\min(\rho_t A, clip(\rho_t, 1 - \epsilon, 1 + \epsilon) A).

    A is the answer's (`grpo_advantages`). A short answer's tokens weigh more than a long one's: `dr_grpo` and `dapo` do without
    that. The denominator is the step's number of answers. Shao et al., arXiv 2402.03300, eq. 3.
    """
    return answer_mean(token_losses(samples, clip, clip), samples, clip_metrics(samples, clip, clip))
