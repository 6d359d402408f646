"""Runs a model's frozen linear maps, with their adapters, through packed weights for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from accord.models.adapted import AdaptedProjection, base_of, can_adapt
from accord.models.fused import Fused, fused
from accord.models.projection import can_pack
from accord.models.sharded import is_sharded


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Run every frozen `nn.Linear` of the model through its packed weight, for as long as the context lasts.

    A LoRA layer over such a map is run with it as one product, and what is known to be many small operations as few large ones.
    Frozen weights must not change inside the context: what runs is the packed copy. A model whose weights are spread over
    processes is run as it is.
    """
    if is_sharded(model):
        yield
        return
    kept: list[nn.Module] = []
    within: set[nn.Module] = set()

    def replace(module: nn.Module, forward: Callable[..., Any]) -> None:
        module.forward = forward  # type: ignore[method-assign]
        kept.append(module)

    # An own `forward` means that an outer context has packed this module already, and with it all that it runs.
    for module in model.modules():
        within |= _run_within(vars(module).get("forward"))
    for module in model.modules():
        if "forward" not in vars(module) and module not in within and (forward := fused(module)):
            replace(module, forward)
            within |= _run_within(forward)
    for module in model.modules():
        if "forward" not in vars(module) and module not in within and can_adapt([module]):
            replace(module, AdaptedProjection([module]))
            within.add(base_of(module))
    try:
        yield
    finally:
        for module in kept:
            del module.forward


def _run_within(forward: Any) -> set[nn.Module]:
    """Return the layers, and their frozen maps, that run inside what runs a module in its stead."""
    if isinstance(forward, Fused):
        return {x for layer in forward.stacked for x in (layer, base_of(layer))}
    return {base_of(layer) for layer in forward.layers} if isinstance(forward, AdaptedProjection) else set()


@contextmanager
def held_still(model: nn.Module) -> Iterator[None]:
    """Let linear maps whose weights are trained count as frozen, so that `packed` packs them: for a context that learns nothing.

    Only where weights are packed for the processor; elsewhere frozen maps are joined in place, and those that are trained must not
    be. Adapters are merged for such a context instead.
    """
    maps = [] if hasattr(model, "peft_config") else [m for m in model.modules() if type(m) is nn.Linear]
    own = [p for m in maps if can_pack(m.weight) for p in m.parameters() if p.requires_grad]
    for p in own:
        p.requires_grad = False
    try:
        yield
    finally:
        for p in own:
            p.requires_grad = True
