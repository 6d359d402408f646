"""Trained weights in a narrow number format, and the fp32 copies of them that the optimiser steps.

A step of 1e-5 on a weight of 1 is lost in bf16, whose neighbours lie 0.008 apart. The model therefore runs on bf16 weights, which
are rounded anew after each step, while what is summed up (gradients, moments, weights) is fp32: Micikevicius et al. 2018, "Mixed
Precision Training" (arXiv 1710.03740), section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from accord.models.sharded import trained


@dataclass(frozen=True, slots=True)
class Masters:
    """What the optimiser steps (`parameters`), and the model's own weights: the same objects where those are fp32."""

    parameters: tuple[nn.Parameter, ...]
    weights: tuple[nn.Parameter, ...]

    @torch.no_grad()
    def publish(self) -> None:
        """Round what the optimiser stepped into the model's weights."""
        for weight, master in zip(self.weights, self.parameters, strict=True):
            if master is not weight:
                weight.copy_(master)


@contextmanager
def masters_of(model: nn.Module) -> Iterator[Masters]:
    """Give a model's trainable weights fp32 masters, which collect their gradients for as long as the context lasts.

    Backward passes add up in the masters; the weights themselves hold no gradient.
    """
    weights = tuple(trained(model).values())
    masters = tuple(p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for p in weights)
    hooks = [
        weight.register_post_accumulate_grad_hook(partial(_collect, master))
        for weight, master in zip(weights, masters, strict=True)
        if master is not weight
    ]
    try:
        yield Masters(masters, weights)
    finally:
        for hook in hooks:
            hook.remove()


def _collect(master: nn.Parameter, weight: Tensor) -> None:
    # Taken first: where memory runs out below, nothing of this batch may be left for the next one to add to.
    gradient, weight.grad = weight.grad, None
    if gradient is None:
        return
    if master.grad is None:
        master.grad = gradient.float()
    else:
        master.grad.add_(gradient)
