"""GRPO without its two biases: towards short right answers, and towards prompts on which answers hardly differ."""

from __future__ import annotations

from functools import partial

from accord.objectives.advantages import grpo_advantages
from accord.objectives.policy_gradient import Clip, Samples, clip_metrics, token_losses
from accord.objectives.reduction import Losses, masked_sum

NEEDS = ("logps", "old_logps", "advantages")
ADVANTAGES = partial(grpo_advantages, scaled=False)
KL_IN = "loss"


def dr_grpo(samples: Samples, max_tokens: int, clip: Clip = 0.2) -> Losses:
    r"""Return the sum over an answer's tokens of GRPO's loss, over `max_tokens`, the longest that an answer may be.

    A constant in the place of the answer's own length leaves the gradient's direction unbiased; the paper's code divides by the
    generation limit. Advantages are `grpo_advantages` without their deviation. The denominator is the step's number of answers.
    Liu et al., arXiv 2503.20783, §3.2.
    """
    loss_B = masked_sum(token_losses(samples, clip, clip), samples.mask_BT) / max_tokens
    return Losses(loss_B, "example", clip_metrics(samples, clip, clip))
