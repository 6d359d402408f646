"""Direct preference optimisation."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from accord.objectives.reduction import Losses

NEEDS = ("logps", "ref_logps")


def dpo(
    chosen_logps_B: Tensor,
    rejected_logps_B: Tensor,
    ref_chosen_logps_B: Tensor,
    ref_rejected_logps_B: Tensor,
    beta: float = 0.1,
) -> Losses:
    r"""Return -\log \sigma(\beta [(\log p(y_w) - \log p_ref(y_w)) - (\log p(y_l) - \log p_ref(y_l))]) a pair.

    The arguments are log-probabilities summed over each answer's tokens. Where model and reference agree the loss is ln 2.
    The denominator is the step's number of pairs. Rafailov et al., arXiv 2305.18290, eq. 7.
    """
    chosen_reward_B = beta * (chosen_logps_B - ref_chosen_logps_B)
    rejected_reward_B = beta * (rejected_logps_B - ref_rejected_logps_B)
    margin_B = chosen_reward_B - rejected_reward_B
    metrics = {
        "margin": margin_B.detach(),
        "accuracy": (margin_B.detach() > 0).float(),
        "chosen_reward": chosen_reward_B.detach(),
        "rejected_reward": rejected_reward_B.detach(),
    }
    return Losses(-F.logsigmoid(margin_B), "example", metrics)
