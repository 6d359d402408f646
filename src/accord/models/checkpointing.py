"""Memory for time: each layer keeps its input alone, and is computed again where the backward pass comes to it."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from accord.errors import ModelError
from accord.models.attention import attend_alike
from accord.models.tree import decoder_of


def recompute_layers(model: nn.Module) -> None:
    """Let a model's layers be computed again in the backward pass, from now on, while it is in training mode.

    Raises:
        ModelError: its layers are not transformers' own, whose forward pass can be run twice.
    """
    layers = list(decoder_of(model).layers)  # type: ignore[arg-type, operator]
    for layer in layers:
        if not isinstance(layer, GradientCheckpointingLayer):
            raise ModelError(
                f"layers of kind {type(layer).__name__} cannot be computed again; leave out --checkpointing"
            )
    again = partial(checkpoint, use_reentrant=False, context_fn=attend_alike)
    for layer in layers:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = again
