"""Frozen weights in 8 or 4 bits: bitsandbytes keeps them, and what they are multiplied with stays in the model's number format.

int8 has a scale a row of weights; nf4 (Dettmers et al., arXiv 2305.14314) one a block of 64, and these in 8 bits again. Embeddings,
norms and the head are never quantised. A layer's weight is unpacked where it is used, in the forward pass and again in the
backward pass, the same way in both modes. bitsandbytes' own products are not used: on the CPU those of nf4 repack the weights for
good in the first pass of an evaluation, and have no gradient from then on; those of int8 round activations in evaluation and not
in training, so that a model would not equal itself as its own reference.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any, cast

import torch
from peft.utils.integrations import dequantize_bnb_weight
from torch import Tensor, nn
from torch.nn import functional as F

from accord.errors import ModelError
from accord.models.precision import Precision

INSTALL_QUANTISED = "pip install bitsandbytes"
_KINDS = {"Linear8bitLt": "int8", "Linear4bit": "nf4"}


def loading_options(precision: Precision, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is given so that weights are quantised as they are read; `dtype` is that of the rest.

    Raises:
        ModelError: bitsandbytes is not installed; the message holds the install line.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"precision {precision} needs bitsandbytes, which is not installed; run: {INSTALL_QUANTISED}")
    from transformers import BitsAndBytesConfig

    kind: dict[str, Any] = {"load_in_8bit": True}
    if precision == "nf4":
        kind = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": dtype,
        }
    return {"quantization_config": BitsAndBytesConfig(**kind), "device_map": {"": str(device)}}


def is_quantised(layer: nn.Module) -> bool:
    """Whether a module is a linear map whose weight bitsandbytes keeps."""
    return type(layer).__module__.startswith("bitsandbytes.") and type(layer).__name__ in _KINDS


def number_format(model: nn.Module) -> str:
    """Return the number format of a model's weights, in words."""
    others = str(next(p.dtype for p in model.parameters() if p.is_floating_point())).removeprefix("torch.")
    kinds = sorted({_KINDS[type(m).__name__] for m in model.modules() if is_quantised(m)})
    return f"{' and '.join(kinds)} weights, multiplied in {others}" if kinds else others


def multiply_unpacked(model: nn.Module) -> None:
    """Let every quantised map of a model unpack its weight at each use, from now on.

    Raises:
        ModelError: 4-bit weights that bitsandbytes would misread.
    """
    for name, layer in model.named_modules():
        if is_quantised(layer):
            _refuse_misread(name, layer)
            layer.forward = partial(_product, layer)  # type: ignore[method-assign]


def _refuse_misread(name: str, layer: Any) -> None:
    """Bitsandbytes (0.50.2) unpacks 4 bits on the CPU by the row, and gives a block that two rows share a wrong scale."""
    state = getattr(layer.weight, "quant_state", None)
    if state is not None and layer.weight.device.type == "cpu" and layer.in_features % state.blocksize:
        raise ModelError(
            f"{name} has {layer.in_features} inputs, and on the CPU 4-bit weights are read rightly only in multiples of "
            f"{state.blocksize} inputs: use int8, or a GPU"
        )


def _product(layer: nn.Module, x: Tensor) -> Tensor:
    y: Tensor = _Unpacked.apply(x, layer)  # type: ignore[no-untyped-call]
    return y if layer.bias is None else y + cast(Tensor, layer.bias).to(y.dtype)


class _Unpacked(torch.autograd.Function):
    """y = x W^T, dx = g W; of W only its packed form is kept in between."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module) -> Tensor:
        ctx.layer = layer
        return F.linear(x, _unpacked(layer, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ _unpacked(ctx.layer, grads[0].dtype), None


def _unpacked(layer: nn.Module, dtype: torch.dtype) -> Tensor:
    """The weight, [out, in], as near as its packed form has it."""
    weight: Tensor = dequantize_bnb_weight(layer.weight, state=getattr(layer, "state", None))
    return weight.to(dtype)
