"""Frozen maps of one input and their LoRA adapters as one differentiable product.

Written as separate operations, an adapter reads and writes its layer's whole output three times (its own product, the scaling,
the sum) and the gradient of its input as often, and in bf16 casts the input to fp32 besides. Here maps that read the same input
(query, key and value; gate and up) are one product, the adapters' products are added in place by the matrix product itself, and
all is multiplied in the layers' own number format; the adapters' weights and their gradients stay in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional as F

from accord.models.projection import Projection, can_pack, is_plain


class AdaptedProjection:
    """The map x -> x W^T + b + s (x A^T) B^T of several layers of one input, their outputs side by side.

    What the layers are set to (adapters off, scaled) is read at each call.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers: Sequence[Any] = layers
        maps = [base_of(layer) for layer in layers]
        self.widths = [m.out_features for m in maps]
        bias = torch.cat([m.bias for m in maps]) if maps[0].bias is not None else None
        weight = maps[0].weight if len(maps) == 1 else torch.cat([m.weight for m in maps])
        self.base = Projection(weight, bias)
        if len(maps) > 1 and not self.base.packs:
            # What runs is what is kept: the layers' weights become parts of the joint one instead of being held twice.
            for m, rows in zip(maps, _edges(self.widths), strict=True):
                m.weight.data = weight.data[rows]

    @property
    def is_adapted(self) -> bool:
        """Whether an adapter takes part, now."""
        return any(map(_adapter, self.layers))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layers' outputs side by side; differentiable in x and the adapters. Shapes [..., in] -> [..., out]."""
        adapters: list[tuple[Tensor, Tensor, float] | None] = [_adapter(layer) for layer in self.layers]
        if not any(adapters):
            return self.base(x)
        weights = [w for adapter in adapters for w in (adapter[:2] if adapter else (None, None))]
        scales = [adapter[2] if adapter else 0.0 for adapter in adapters]
        return cast(Tensor, _Adapted.apply(x, self.base, self.widths, scales, *weights))  # type: ignore[no-untyped-call]


class TrainedProjection:
    """The map x -> x W^T + b of several layers of one input whose weights are trained, their outputs side by side."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers: Sequence[Any] = layers
        self.widths = [layer.out_features for layer in self.layers]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layers' outputs side by side; differentiable in x, weights and biases. Shapes [..., in] -> [..., out]."""
        bias = None if self.layers[0].bias is None else torch.cat([layer.bias for layer in self.layers])
        return F.linear(x, torch.cat([layer.weight for layer in self.layers]), bias)


def joined(layers: Sequence[nn.Module]) -> AdaptedProjection | TrainedProjection:
    """Return what runs layers of one input as one product (`can_join`)."""
    return AdaptedProjection(layers) if can_adapt(layers) else TrainedProjection(layers)


def can_join(layers: Sequence[nn.Module]) -> bool:
    """Whether layers of one input can be one product: frozen maps and their adapters, or plain maps that are trained."""
    if can_adapt(layers):
        return True
    plain: Sequence[Any] = layers
    return (
        all(type(layer) is nn.Linear and layer.weight.requires_grad for layer in plain)
        and len({(m.in_features, m.weight.dtype, m.weight.device, m.bias is None) for m in plain}) == 1
        and can_pack(plain[0].weight)
    )


def can_adapt(layers: Sequence[nn.Module]) -> bool:
    """Whether layers of one input can be one product: frozen maps of one kind, each plain or under a plain LoRA layer."""
    if not all(type(layer) is nn.Linear or _is_plain_lora(layer) for layer in layers):
        return False
    maps = [base_of(layer) for layer in layers]
    frozen = not any(p.requires_grad for m in maps for p in m.parameters())
    alike = len({(m.in_features, m.weight.dtype, m.weight.device, m.bias is None) for m in maps}) == 1
    return frozen and alike and (can_pack(maps[0].weight) or is_plain(maps[0].weight))


def base_of(layer: nn.Module) -> nn.Linear:
    """Return the frozen map itself."""
    return cast(nn.Linear, layer.get_base_layer()) if isinstance(layer, LoraLinear) else cast(nn.Linear, layer)


def _is_plain_lora(layer: nn.Module) -> bool:
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


def _adapter(layer: Any) -> tuple[Tensor, Tensor, float] | None:
    if not isinstance(layer, LoraLinear) or layer._disable_adapters or layer.merged:  # type: ignore[has-type]
        return None
    (name,) = layer.active_adapters
    return layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]  # type: ignore[return-value]


class _Adapted(torch.autograd.Function):
    """y = x W^T + h B^T with h = x A^T; dx = g W + (g B) A, dA = (g B)^T x, dB = g^T h.

    A holds the layers' adapters one below the other, and B theirs as blocks along its diagonal, each times its scale.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, base: Projection, widths: Sequence[int], scales: Sequence[float], *weights: Tensor | None
    ) -> Tensor:
        y = base.forward(x)
        flat_NI = x.reshape(-1, x.shape[-1])
        parts_A, parts_B = weights[::2], weights[1::2]
        ranks = [0 if a is None else a.shape[0] for a in parts_A]
        a = torch.cat([p for p in parts_A if p is not None]).to(x.dtype)
        if len(parts_B) == 1:
            b = (cast(Tensor, parts_B[0]) * scales[0]).to(x.dtype)
        else:
            b = x.new_zeros(sum(widths), sum(ranks))
            for part, scale, o, r in zip(parts_B, scales, _edges(widths), _edges(ranks), strict=True):
                if part is not None:
                    b[o, r] = part * scale
        h_NR = flat_NI @ a.t()
        y.view(-1, y.shape[-1]).addmm_(h_NR, b.t())
        ctx.save_for_backward(flat_NI, h_NR, a, b)
        ctx.base, ctx.widths, ctx.scales, ctx.ranks, ctx.shape = base, widths, scales, ranks, x.shape
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        flat_NI, h_NR, a, b = ctx.saved_tensors
        g_NO = grads[0].reshape(-1, grads[0].shape[-1])
        gb_NR = g_NO @ b
        dx = None
        if ctx.needs_input_grad[0]:
            dx = ctx.base.transpose(g_NO).addmm_(gb_NR, a).view(ctx.shape)
        da, db = (gb_NR.t() @ flat_NI).float(), (g_NO.t() @ h_NR).float()
        parts: list[Tensor | None] = []
        for scale, o, r in zip(ctx.scales, _edges(ctx.widths), _edges(ctx.ranks), strict=True):
            parts += [da[r], db[o, r] * scale] if r.stop > r.start else [None, None]
        return (dx, None, None, None, *parts)


def _edges(sizes: Sequence[int]) -> list[slice]:
    ends = list(accumulate(sizes))
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
