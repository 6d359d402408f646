"""A frozen map and its LoRA adapter as one differentiable product.

Written as separate operations, an adapter reads and writes its layer's whole output three times (its own product, the scaling,
the sum) and the gradient of its input as often, and in bf16 casts the input to fp32 besides. Here the adapter's product is
added in place by the matrix product itself, and all is multiplied in the layer's own number format; the adapter's weights and
their gradients stay in fp32.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn

from accord.models.projection import Projection


class AdaptedProjection:
    """The map x -> x W^T + b + s (x A^T) B^T of a LoRA layer [out, in], with what the layer is set to at each call."""

    def __init__(self, layer: LoraLinear, base: Projection) -> None:
        self.layer, self.base = layer, base

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output; differentiable in x, A and B. Shapes [..., in] -> [..., out]."""
        layer: Any = self.layer
        if layer._disable_adapters or layer.merged:
            return self.base(x)
        (name,) = layer.active_adapters
        a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
        return cast(Tensor, _Adapted.apply(x, a, b, self.base, layer.scaling[name]))  # type: ignore[no-untyped-call]


def can_fuse(layer: nn.Module) -> bool:
    """Whether a module is a plain LoRA layer: one active adapter on a linear map, no dropout, no bias of its own, no variant."""
    if type(layer) is not LoraLinear:
        return False
    lora: Any = layer
    name = lora.active_adapters[0] if len(lora.active_adapters) == 1 else None
    return (
        name in lora.lora_A
        and name not in lora.lora_variant
        and isinstance(lora.lora_dropout[name], nn.Identity)
        and lora.lora_B[name].bias is None
        and type(lora.get_base_layer()) is nn.Linear
    )


class _Adapted(torch.autograd.Function):
    """y = x W^T + s h B^T with h = x A^T; dx = g W + s (g B) A, dA = s (g B)^T x, dB = s g^T h."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, base: Projection, scale: float) -> Tensor:
        y = base.forward(x)
        flat_NI, a, b = x.reshape(-1, x.shape[-1]), a.to(x.dtype), b.to(x.dtype)
        h_NR = flat_NI @ a.t()
        y.view(-1, y.shape[-1]).addmm_(h_NR, b.t(), alpha=scale)
        ctx.save_for_backward(flat_NI, h_NR, a, b)
        ctx.base, ctx.scale, ctx.shape = base, scale, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        flat_NI, h_NR, a, b = ctx.saved_tensors
        g_NO = grads[0].reshape(-1, grads[0].shape[-1])
        gb_NR = (g_NO @ b).mul_(ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = ctx.base.transpose(g_NO).addmm_(gb_NR, a).view(ctx.shape)
        return dx, (gb_NR.t() @ flat_NI).float(), (g_NO.t() @ h_NR).mul_(ctx.scale).float(), None, None
