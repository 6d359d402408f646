"""From losses per example to the one number that is differentiated.

The denominator is a *total over the whole optimiser step*, counted before the step begins. A micro-batch contributes its sum
divided by that total, so that any split of a step into micro-batches, accumulation steps or ranks gives the same gradient. (A
mean of micro-batch means does not: huggingface/trl#2175.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from accord.errors import AccordError

Unit = Literal["token", "example"]


@dataclass(frozen=True, slots=True)
class Losses:
    """What an objective returns. Shapes: B examples.

    `loss_B` sums over an example's tokens where `unit` is "token". `metrics` hold one value an example, detached; they are
    reported as means over examples.
    """

    loss_B: Tensor
    unit: Unit
    metrics: Mapping[str, Tensor] = field(default_factory=dict)

    def with_metrics(self, **more: Tensor) -> Losses:
        """Return the same losses with more metrics, of which each is reported as the mean of its values."""
        return replace(self, metrics={**self.metrics, **more})


@dataclass(frozen=True, slots=True)
class Totals:
    """How many supervised tokens and examples one optimiser step holds, over all micro-batches and ranks."""

    tokens: int
    examples: int

    def of(self, unit: Unit) -> int:
        """Return the total that a unit is divided by."""
        return self.tokens if unit == "token" else self.examples


def reduce(losses: Losses, totals: Totals) -> Tensor:
    """Return this micro-batch's share of the step's loss: its sum over the step's total. A scalar.

    Raises:
        AccordError: the step's total is 0, so no loss is defined.
    """
    total = totals.of(losses.unit)
    if total <= 0:
        raise AccordError(f"an optimiser step without a single supervised {losses.unit} has no loss")
    return losses.loss_B.sum() / total


def masked_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the positions that the mask holds. Shape [B].

    Selects instead of multiplying: a NaN outside the mask times 0 would still be NaN, in the gradient too.
    """
    return torch.where(mask_BT, values_BT, torch.zeros((), dtype=values_BT.dtype, device=values_BT.device)).sum(-1)
