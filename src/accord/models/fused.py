"""Parts of a transformer layer that are run as few large operations: the gated unit, rotated attention, the norm.

Transformers writes them as many small ones, each of which reads and writes a whole activation and keeps it for the backward
pass. On a processor whose matrix unit is fast these cost more than the products (figures in docs/log.md). What is computed is
the same; what is kept is what the backward pass needs. Only modules whose mathematics is known here, by their class, are run
this way.

Shapes: B rows, L positions, H query heads, K key heads, D head size, F inner width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm, eager_attention_forward

from accord.models import kernels
from accord.models.adapted import can_join, joined


class Fused(ABC):
    """What runs a module's forward pass in its stead; `stacked` are its layers that are one product."""

    stacked: Sequence[nn.Module] = ()

    @abstractmethod
    def __call__(self, *args: Any, **more: Any) -> Any:
        """As the module's own `forward`."""


class GatedUnit(Fused):
    """down(silu(gate(x)) * up(x)), gate and up as one product."""

    def __init__(self, module: Any) -> None:
        self.stacked = [module.gate_proj, module.up_proj]
        self.gate_up, self.down = joined(self.stacked), module.down_proj

    def __call__(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the unit's output. Shape as x."""
        return cast(Tensor, self.down(_applied(_Gate, self.gate_up(x))))


class RotatedAttention(Fused):
    """Attention as transformers' Llama has it; query, key and value as one product, rotated in one step."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.stacked = [module.q_proj, module.k_proj, module.v_proj]
        self.qkv = joined(self.stacked)

    def __call__(  # type: ignore[override]
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        cache: Any = None,
        **more: Any,
    ) -> tuple[Tensor, Any]:
        """As the module's own `forward`."""
        module = self.module
        heads = [width // module.head_dim for width in self.qkv.widths]
        qkv = self.qkv(hidden_states)
        q, k, v = _applied(_Rotate, qkv.view(*qkv.shape[:-1], -1, module.head_dim), *position_embeddings, heads)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if cache is not None:
            k, v = cache.update(k, v, module.layer_idx, kwargs=more)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            module.config._attn_implementation, eager_attention_forward
        )
        dropout = module.attention_dropout if module.training else 0.0
        y, weights = attend(module, q, k, v, attention_mask, dropout=dropout, scaling=module.scaling, **more)
        return module.o_proj(y.reshape(*qkv.shape[:-1], -1)), weights


class RootMeanSquare(Fused):
    """x / rms(x) * w."""

    def __init__(self, module: Any) -> None:
        self.weight, self.epsilon = module.weight, float(module.variance_epsilon)

    def __call__(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the normalised states. Shape as x."""
        return cast(Tensor, _applied(_Norm, x, self.weight, self.epsilon))


def fused(module: nn.Module) -> Fused | None:
    """Return what runs a module's forward pass in its stead, or None where its mathematics is not known here."""
    found: Any = module
    if type(module) is LlamaMLP and found.config.hidden_act == "silu" and can_join([found.gate_proj, found.up_proj]):
        return GatedUnit(module)
    if type(module) is LlamaAttention and can_join([found.q_proj, found.k_proj, found.v_proj]):
        return RotatedAttention(module)
    if type(module) is LlamaRMSNorm:
        return RootMeanSquare(module)
    return None


class _Nothing:
    """What a forward pass keeps for a backward pass that will not come."""

    def save_for_backward(self, *_: Tensor) -> None:
        """Keep nothing."""


_NOTHING = _Nothing()


def _applied(function: type[torch.autograd.Function], *given: Any) -> Any:
    """Apply a function; without autograd around it where no gradient can be asked for: a decoding step has hundreds of them."""
    if torch.is_inference_mode_enabled():
        return function.forward(_NOTHING, *given)
    return function.apply(*given)  # type: ignore[no-untyped-call]


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        return cast(Tensor, kernels.gate(_rows(gate_up))).view(*gate_up.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        return cast(Tensor, kernels.gate_backward(_rows(gate_up), _rows(grads[0]))).view(gate_up.shape)


class _Rotate(torch.autograd.Function):
    """Query, key and value from their joint product, the first two rotated; the transpose rotates back."""

    @staticmethod
    def forward(ctx: Any, qkv_BLHD: Tensor, cos_BLD: Tensor, sin_BLD: Tensor, heads: list[int]) -> Any:
        half = qkv_BLHD.shape[-1] // 2
        shape = qkv_BLHD.shape[:2]
        # One set of angles may stand for all rows of a batch.
        cos, sin = (x[..., :half].expand(*shape, -1).reshape(-1, 1, half) for x in (cos_BLD, sin_BLD))
        ctx.save_for_backward(cos, sin)
        q, k, v = qkv_BLHD.flatten(0, 1).split(heads, 1)
        turned = (kernels.rotate(q, cos, sin), kernels.rotate(k, cos, sin), v.clone())
        return tuple(x.view(*shape, *x.shape[1:]) for x in turned)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        cos, sin = ctx.saved_tensors
        dq, dk, dv = (x.flatten(0, 1).contiguous() for x in grads)
        joint = torch.cat([kernels.rotate(dq, cos, -sin), kernels.rotate(dk, cos, -sin), dv], 1)
        return joint.view(*grads[0].shape[:2], *joint.shape[1:]), None, None, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        y, r = kernels.norm(_rows(x), weight, epsilon)
        ctx.save_for_backward(x, weight, r)
        return cast(Tensor, y).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        x, weight, r = ctx.saved_tensors
        grad_ND, x_ND = _rows(grads[0]), _rows(x)
        dw = kernels.norm_weight_gradient(grad_ND, x_ND, r).to(weight.dtype) if ctx.needs_input_grad[1] else None
        return kernels.norm_backward(grad_ND, x_ND, weight, r).view(x.shape), dw, None


def _rows(x: Tensor) -> Tensor:
    """All positions in one dimension, contiguous, so that one compiled loop serves every batch."""
    return x.reshape(-1, x.shape[-1]).contiguous()
