"""Reward models: scores that rank answers as people did."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.objectives.pairs import pair_metrics
from accord.objectives.reduction import Losses

NEEDS = ("scores",)


@dataclass(frozen=True, slots=True)
class Ranked:
    """P comparisons among the answers of E prompts: a prompt with K ranked answers gives K (K - 1) / 2. Fields have shape [P].

    `prompt_P` numbers each comparison's prompt. `margin_P` is by how much the better score should lead, from the strength of the
    preference; None is 0. `preference_P` is the probability that `better` is better; None is 1.
    """

    better_P: Tensor
    worse_P: Tensor
    prompt_P: Tensor
    n_prompts: int
    margin_P: Tensor | None = None
    preference_P: Tensor | None = None

    @property
    def sizes(self) -> Tensor:
        """How many comparisons each prompt has. Shape [E]."""
        return torch.bincount(self.prompt_P, minlength=self.n_prompts)

    def mean(self, values_P: Tensor) -> Tensor:
        """Return the mean over each prompt's comparisons, 0 for a prompt without any. Shape [E]."""
        total_E = values_P.new_zeros(self.n_prompts).index_add(0, self.prompt_P, values_P)
        return total_E / self.sizes.clamp_min(1).to(values_P.dtype)


def bradley_terry(ranked: Ranked, centring: float = 0.0) -> Losses:
    r"""Return the mean over a prompt's comparisons of -\log \sigma(r_w - r_l - m) + c (r_w + r_l)^2.

    With a preference probability q the first term is -q \log \sigma(r_w - r_l - m) - (1 - q) \log \sigma(r_l - r_w + m).
    `centring` is c: it pulls scores towards 0, which the first term leaves open (Eisenstein et al., arXiv 2312.09244, eq. 4). All
    comparisons of a prompt are one example, as in InstructGPT (Ouyang et al., arXiv 2203.02155, eq. 1); the margin is Llama 2's
    (Touvron et al., arXiv 2307.09288, eq. 2). The denominator is the step's number of prompts.
    """
    gap_P = ranked.better_P - ranked.worse_P
    lead_P = gap_P if ranked.margin_P is None else gap_P - ranked.margin_P
    if ranked.preference_P is None:
        loss_P = -F.logsigmoid(lead_P)
    else:
        q_P = ranked.preference_P
        loss_P = -q_P * F.logsigmoid(lead_P) - (1 - q_P) * F.logsigmoid(-lead_P)
    if centring:
        loss_P = loss_P + centring * (ranked.better_P + ranked.worse_P) ** 2
    metrics = pair_metrics(ranked.better_P, ranked.worse_P)
    # A prompt without comparisons has no accuracy: it is in no mean.
    compared_E = ranked.sizes > 0
    return Losses(
        ranked.mean(loss_P), "example", {name: ranked.mean(value)[compared_E] for name, value in metrics.items()}
    )
