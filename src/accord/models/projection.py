"""Frozen linear maps through oneDNN with weights packed once, forward and backward.

PyTorch multiplies fp32 matrices on the CPU through MKL, which on AMD processors, and for the few rows of a decoding step on any,
is well below what oneDNN reaches with a weight already in its blocked layout (figures in docs/log.md). A frozen weight can be
packed once, as it is and transposed, so that its forward pass and its input's gradient both use it. On other devices, and
for weights that are trained, everything here is the plain product.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.models.precision import has_native_bf16

_ROWS_HINT = 256


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN can be used for this weight: on the CPU, in fp32 or in bf16 that the processor has."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or (weight.dtype == torch.bfloat16 and has_native_bf16(weight.device))


def is_plain(weight: Tensor) -> bool:
    """Whether a GPU multiplies this weight as it stands, without unpacking it first."""
    return weight.device.type == "cuda" and weight.dtype in (torch.float32, torch.bfloat16)


class Projection:
    """The map x -> x W^T + b of a frozen weight [out, in], and its transpose."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight, self.bias = weight.detach(), bias
        self.packs = can_pack(weight)
        self._forward = torch.ops.mkldnn._reorder_linear_weight(self.weight, _ROWS_HINT) if self.packs else self.weight
        self._backward: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b without gradient. Shapes [..., in] -> [..., out]."""
        if self.packs and x.dtype == self.weight.dtype:
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._forward, self.bias, "none", [], ""))
        return F.linear(x, self.weight, self.bias)

    def transpose(self, grad: Tensor) -> Tensor:
        """Return g W, the gradient of the input. Shapes [..., out] -> [..., in]."""
        if not self.packs or grad.dtype != self.weight.dtype:
            return grad @ self.weight
        if self._backward is None:
            self._backward = torch.ops.mkldnn._reorder_linear_weight(self.weight.t().contiguous(), _ROWS_HINT)
        return cast(Tensor, torch.ops.mkldnn._linear_pointwise(grad.contiguous(), self._backward, None, "none", [], ""))

    def __call__(self, x: Tensor) -> Tensor:
        """As `forward`, and differentiable in x."""
        if torch.is_grad_enabled() and x.requires_grad:
            return cast(Tensor, _Project.apply(x, self))  # type: ignore[no-untyped-call]
        return self.forward(x)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, projection: Projection) -> Tensor:
        ctx.projection = projection
        return projection.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.projection.transpose(grads[0]), None
