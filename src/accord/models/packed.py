"""Runs a model's frozen linear maps, with their adapters, through packed weights for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from accord.models.adapted import AdaptedProjection, can_fuse
from accord.models.projection import Projection, can_pack


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Run every frozen `nn.Linear` of the model through its packed weight, for as long as the context lasts.

    A LoRA layer over such a map is run with it as one product. Weights must not change inside the context, an adapter's apart:
    what runs is the packed copy.
    """
    kept: list[nn.Module] = []

    def replace(module: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        module.forward = forward  # type: ignore[method-assign, assignment]
        kept.append(module)

    for module in model.modules():
        # An own `forward` means that an outer context has packed this layer already.
        if (
            type(module) is nn.Linear
            and "forward" not in vars(module)
            and _is_frozen(module)
            and can_pack(module.weight)
        ):
            replace(module, Projection(module.weight, module.bias))
    for layer in model.modules():
        if "forward" not in vars(layer) and can_fuse(layer):
            adapted: Any = layer
            base = vars(adapted.get_base_layer()).get("forward")
            if isinstance(base, Projection):
                replace(layer, AdaptedProjection(adapted, base))
    try:
        yield
    finally:
        for module in kept:
            del module.forward


def _is_frozen(module: nn.Module) -> bool:
    return not any(p.requires_grad for p in module.parameters())
