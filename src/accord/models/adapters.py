"""LoRA adapters: where they sit, how strongly they act, and folding them into the weights for a rollout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn

from accord.errors import SettingsError
from accord.models.load import LoadedModel
from accord.models.reward import SCORE
from accord.models.tree import decoder_of


def n_layers(model: nn.Module) -> int:
    """Return how many transformer layers a model has."""
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def add_lora(loaded: LoadedModel, rank: int, first_layer: int, alpha: float | None = None) -> PeftModel:
    """Put LoRA on every linear map of the layers from `first_layer` on; the adapter's weights are fp32.

    A reward model's head is trained whole, and saved with the adapter.

    Raises:
        SettingsError: `first_layer` is no layer of the model.
    """
    total = n_layers(loaded.model)
    if not 0 <= first_layer < total:
        raise SettingsError(f"first adapted layer {first_layer} is not one of the model's layers 0 to {total - 1}")
    scores = hasattr(loaded.model, SCORE)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        target_modules=sorted(_linear_names(loaded.model)),
        layers_to_transform=list(range(first_layer, total)) if first_layer else None,
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
        modules_to_save=[SCORE] if scores else None,
    )
    model = get_peft_model(loaded.model, config)
    model.peft_config["default"].base_model_name_or_path = loaded.model.config._name_or_path
    return model


def _linear_names(model: nn.Module) -> set[str]:
    """Names of the linear maps inside the layers (`q_proj`, `up_proj`, ...), whatever the architecture calls them."""
    layers = decoder_of(model).layers
    return {name.rsplit(".", 1)[-1] for name, m in layers.named_modules() if isinstance(m, nn.Linear)}  # type: ignore[union-attr]


@contextmanager
def scaled(model: nn.Module, factor: float) -> Iterator[None]:
    """Let every adapter act `factor` times as strongly: 0 is the base model, 1 the trained one.

    At 0 the adapters are not computed at all.
    """
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    kept = [(dict(layer.scaling), layer._disable_adapters) for layer in layers]
    for layer in layers:
        layer._disable_adapters |= factor == 0
        for name in layer.scaling:
            layer.scaling[name] *= factor
    try:
        yield
    finally:
        for layer, (scaling, disabled) in zip(layers, kept, strict=True):
            layer.scaling.update(scaling)
            layer._disable_adapters = disabled


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Fold the adapters into the weights, and put back the very same bits afterwards (subtracting would not)."""
    adapted = [m for m in model.modules() if isinstance(m, LoraLayer)]
    layers = [m for m in adapted if not m.merged and not m._disable_adapters]  # type: ignore[attr-defined]
    kept = [layer.get_base_layer().weight.data for layer in layers]  # type: ignore[union-attr]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                base = layer.get_base_layer()
                delta = sum(layer.get_delta_weight(name) for name in layer.active_adapters)  # type: ignore[operator, union-attr]
                base.weight.data = (weight.float() + delta).to(weight.dtype)  # type: ignore[union-attr]
                layer.merged_adapters = list(layer.active_adapters)  # type: ignore[union-attr, attr-defined]
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data = weight  # type: ignore[union-attr]
            layer.merged_adapters = []  # type: ignore[attr-defined]
