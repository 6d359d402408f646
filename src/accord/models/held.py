"""A model as it was: the reference of one whose every weight is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from accord.models.sharded import trained


def held(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Copy the trained weights, and return what lets the model run on the copy for a while.

    This costs the memory of these weights once more. Nothing may be learned in the context.
    """
    weights = list(trained(model).values())
    copies = [weight.detach().clone() for weight in weights]

    @contextmanager
    def as_it_was() -> Iterator[None]:
        now = [weight.data for weight in weights]
        try:
            _put(weights, copies)
            yield
        finally:
            _put(weights, now)

    return as_it_was


def _put(weights: list[nn.Parameter], data: list[torch.Tensor]) -> None:
    # The weights themselves stay the same objects: an optimiser, and a head that is tied to the embeddings, hold on to them.
    for weight, own in zip(weights, data, strict=True):
        weight.data = own
