"""Group sequence policy optimisation: one ratio an answer, instead of one a token."""

from __future__ import annotations

from accord.objectives.advantages import grpo_advantages
from accord.objectives.policy_gradient import Clip, ClipHigh, Samples, clipped, mean_of_answer, stopped
from accord.objectives.reduction import Losses

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = grpo_advantages
KL_IN = "loss"


def gspo(samples: Samples, clip: Clip = 3e-4, clip_high: ClipHigh = 4e-4) -> Losses:
    r"""Return -\min(s A, clip(s, 1 - \epsilon_{low}, 1 + \epsilon_{high}) A), s = (p(y) / p_old(y))^{1 / |y|}.

    s is the geometric mean of the tokens' ratios, so that its bounds are far nearer to 1 than a token's. The correction for the
    engine is the mean of its tokens' weights, `extra_BT` the mean over the answer. The denominator is the step's number of
    answers. Zheng et al., arXiv 2507.18071, eq. 5 to 7, bounds of §5.1.
    """
    ratio_B = mean_of_answer(samples.log_ratio, samples).exp()
    loss_B = clipped(ratio_B, samples.advantage, clip, clip_high)
    if samples.weights_BT is not None:
        loss_B = mean_of_answer(samples.weights_BT, samples) * loss_B
    if samples.extra_BT is not None:
        loss_B = loss_B + mean_of_answer(samples.extra_BT, samples)
    stopped_B = stopped(ratio_B, samples.advantage, clip, clip_high)
    return Losses(loss_B, "example", {"clipped": stopped_B, "ratio": ratio_B.detach()})
