"""LoRA adapters and their kinds: where they sit, how strongly they act, and folding them into the weights for a rollout.

LoRA adds s B A to a frozen W, with s = 1 here whatever the rank. rsLoRA (Kalajdzievski, arXiv 2312.03732) has s fall with the
root of the rank, so that a learning rate found at one rank does for another. DoRA (Liu et al., arXiv 2402.09353) learns each
row's length apart from its direction: m (W + s B A) / |W + s B A|. All three are PEFT's, as what is saved is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn

from accord.errors import SettingsError
from accord.models.load import LoadedModel
from accord.models.quantised import is_quantised
from accord.models.reward import SCORE
from accord.models.tree import decoder_of

AdapterKind = Literal["lora", "dora", "rslora"]
# rsLoRA's scale is alpha / sqrt(rank): with this alpha that of LoRA at rank 16, the default of `accord train`.
RSLORA_ALPHA = 4.0


def n_layers(model: nn.Module) -> int:
    """Return how many transformer layers a model has."""
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


def add_lora(
    loaded: LoadedModel,
    rank: int,
    first_layer: int,
    alpha: float | None = None,
    kind: AdapterKind = "lora",
    last_layer: int = -1,
) -> PeftModel:
    """Put adapters on every linear map of the layers from `first_layer` to `last_layer` (-1: the last); their weights are fp32.

    `alpha` is by default such that the scale is 1, or rsLoRA's (`RSLORA_ALPHA`). A reward model's head is trained whole, and saved
    with the adapter.

    Raises:
        SettingsError: these are not layers of the model.
    """
    total = n_layers(loaded.model)
    last_layer = total - 1 if last_layer == -1 else last_layer
    if not 0 <= first_layer <= last_layer < total:
        raise SettingsError(
            f"layers {first_layer} to {last_layer} cannot be adapted: the model has layers 0 to {total - 1}"
        )
    adapted = range(first_layer, last_layer + 1)
    if alpha is None:
        alpha = RSLORA_ALPHA if kind == "rslora" else rank
    scores = hasattr(loaded.model, SCORE)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        use_rslora=kind == "rslora",
        use_dora=kind == "dora",
        target_modules=sorted(_linear_names(loaded.model)),
        layers_to_transform=list(adapted) if len(adapted) < total else None,
        task_type="SEQ_CLS" if scores else "CAUSAL_LM",
        modules_to_save=[SCORE] if scores else None,
    )
    model = get_peft_model(loaded.model, config)
    model.peft_config["default"].base_model_name_or_path = loaded.model.config._name_or_path
    _begin_at_base(model)
    return model


def _begin_at_base(model: nn.Module) -> None:
    """Give fresh DoRA adapters the base weights' own row lengths, in fp32.

    PEFT takes them in the base's number format: over bf16 weights a fresh adapter would be another model than the base.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            for lengths in layer.lora_magnitude_vector.values():
                weight = dequantize_module_weight(layer.get_base_layer())
                lengths.weight.data = torch.linalg.norm(weight.float(), dim=1)


def _linear_names(model: nn.Module) -> set[str]:
    """Names of the linear maps inside the layers (`q_proj`, `up_proj`, ...), whatever the architecture calls them."""
    layers = decoder_of(model).layers
    return {name.rsplit(".", 1)[-1] for name, m in layers.named_modules() if isinstance(m, nn.Linear)}  # type: ignore[union-attr]


@contextmanager
def scaled(model: nn.Module, factor: float) -> Iterator[None]:
    """Let every adapter act `factor` times as strongly: 0 is the base model, 1 the trained one.

    At 0 the adapters are not computed at all. A DoRA adapter's row lengths are not scaled: between 0 and 1 it lies on no line
    from the base model to the trained one.
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


@torch.no_grad()
def fold_strength(model: nn.Module, factor: float) -> None:
    """Make every adapter act `factor` times as strongly for good: what `scaled` does for a while, done to its weights.

    A DoRA adapter, whose strength is not on one line with the base model, must be left at 1.
    """
    for layer in (m for m in model.modules() if isinstance(m, LoraLayer)):
        for out in layer.lora_B.values():
            out.weight.mul_(factor)


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Fold the adapters into the weights, and put back the very same bits afterwards (subtracting would not).

    Adapters over quantised weights, which would round them away, are left beside.
    """
    adapted = [m for m in model.modules() if isinstance(m, LoraLayer) and not is_quantised(m.get_base_layer())]
    layers = [m for m in adapted if not m.merged and not m._disable_adapters]  # type: ignore[attr-defined]
    kept = [layer.get_base_layer().weight.data for layer in layers]  # type: ignore[union-attr]
    try:
        with torch.no_grad():
            for layer, weight in zip(layers, kept, strict=True):
                layer.get_base_layer().weight.data = _folded(layer, weight).to(weight.dtype)  # type: ignore[union-attr]
                layer.merged_adapters = list(layer.active_adapters)  # type: ignore[union-attr, attr-defined]
        yield
    finally:
        for layer, weight in zip(layers, kept, strict=True):
            layer.get_base_layer().weight.data = weight  # type: ignore[union-attr]
            layer.merged_adapters = []  # type: ignore[attr-defined]


def _folded(layer: Any, weight: Tensor) -> Tensor:
    """Return a map's weight with its adapters in it, in fp32. Shape [out, in]."""
    folded = weight.float()
    for name in layer.active_adapters:
        folded = folded + layer.get_delta_weight(name)
        if name in layer.lora_magnitude_vector:
            lengths = torch.linalg.norm(folded, dim=1)
            folded = folded * (layer.lora_magnitude_vector[name].weight / lengths)[:, None]
    return folded
