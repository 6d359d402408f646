"""What an objective on preference pairs sees, and what all of them report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from accord.errors import AccordError

# The share of flipped labels: at one half there is nothing left to learn, above it the labels say the opposite.
LabelError = Annotated[float, Field(ge=0, lt=0.5)]


@dataclass(frozen=True, slots=True)
class Pairs:
    """B pairs of answers to the same prompts. Every field has shape [B].

    Log-probabilities are summed over an answer's tokens; `n_*` counts these tokens. `ref_*` are those of the model that training
    started from: None where an objective does without. `preference_B` is the probability, by the raters, that the chosen answer is
    the better one; NaN for a pair of which they say nothing, None where they do of no pair.
    """

    chosen_B: Tensor
    rejected_B: Tensor
    n_chosen_B: Tensor
    n_rejected_B: Tensor
    ref_chosen_B: Tensor | None = None
    ref_rejected_B: Tensor | None = None
    preference_B: Tensor | None = None

    @property
    def chosen_ratio(self) -> Tensor:
        """Log p(chosen) - log p_ref(chosen)."""
        return self.chosen_B - _given(self.ref_chosen_B)

    @property
    def rejected_ratio(self) -> Tensor:
        """Log p(rejected) - log p_ref(rejected)."""
        return self.rejected_B - _given(self.ref_rejected_B)

    @property
    def delta(self) -> Tensor:
        """Difference of the two log-ratios: what DPO calls the implicit reward margin, without beta."""
        return self.chosen_ratio - self.rejected_ratio

    @property
    def mean_delta(self) -> Tensor:
        """As `delta`, each log-ratio divided by its answer's number of tokens."""
        return self.chosen_ratio / self.n_chosen_B - self.rejected_ratio / self.n_rejected_B


def _given(ref_logps_B: Tensor | None) -> Tensor:
    if ref_logps_B is None:
        raise AccordError("this objective compares with a reference, whose log-probabilities were not given")
    return ref_logps_B


def pair_metrics(chosen_reward_B: Tensor, rejected_reward_B: Tensor) -> Mapping[str, Tensor]:
    """Return margin, accuracy (a tie is not a preference) and both rewards apart, so that a fall of both is seen."""
    with torch.no_grad():
        margin_B = chosen_reward_B - rejected_reward_B
        return {
            "margin": margin_B.detach(),
            "accuracy": (margin_B > 0).float(),
            "chosen_reward": chosen_reward_B.detach(),
            "rejected_reward": rejected_reward_B.detach(),
        }
