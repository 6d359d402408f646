"""One decoding step of a Llama, written out: every row says its next token.

A step of some rows is thirty times two dozen small operations. Through transformers' modules, with what they check, wrap and hand
on, a layer is some five hundred calls of Python, a sixth of the step where rows are few (docs/log.md). Here the same operations
stand one after the other, on what `packed` has made of the layers. A model whose mathematics is not known by its class, or that
somebody hooks into, has no such step.

Shapes: R rows, D hidden size, H query heads, K key heads, E head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaForCausalLM

from accord.models import kernels
from accord.models.adapted import AdaptedProjection
from accord.models.fused import GatedUnit, RootMeanSquare, RotatedAttention
from accord.models.logits import inner_of
from accord.models.projection import Projection

# A layer's number, its queries [R, H, E], new keys and values [R, K, E] and the scale of scores; to what was found, [R, H, E].
Attend = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    norm: RootMeanSquare
    qkv: Projection
    heads: tuple[int, int]
    scale: float
    out: Projection
    second_norm: RootMeanSquare
    gate_up: Projection
    down: Projection


class DecodingStep:
    """A step of a packed model; `step_of` makes it."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        decoder: Any = model.model
        self.embed, self.angles = decoder.embed_tokens, decoder.rotary_emb
        self.layers = [_layer(layer) for layer in decoder.layers]
        self.norm: RootMeanSquare = _run_by(decoder.norm, RootMeanSquare)
        self.head = _plain(_run_by(model.lm_head, AdaptedProjection))

    def __call__(self, tokens_R: Tensor, positions_R: Tensor, attend: Attend) -> Tensor:
        """Return each row's logits. Shape [R, V]."""
        x = self.embed(tokens_R)
        cos, sin = self.angles(x[:, None], positions_R[:, None])
        half = cos.shape[-1] // 2
        cos, sin = cos[..., :half], sin[..., :half]
        for number, layer in enumerate(self.layers):
            H, K = layer.heads
            qkv = layer.qkv.forward(_normed(layer.norm, x)).view(len(x), H + 2 * K, -1)
            # Queries and keys are turned alike, so both at once.
            turned, values = kernels.rotate(qkv[:, : H + K], cos, sin), qkv[:, H + K :]
            found = attend(number, turned[:, :H], turned[:, H:], values, layer.scale)
            x = x + layer.out.forward(found.reshape(len(x), -1))
            gated = kernels.gate(layer.gate_up.forward(_normed(layer.second_norm, x)))
            x = x + layer.down.forward(gated)
        return self.head.forward(_normed(self.norm, x))


class _UnknownError(Exception):
    pass


def step_of(model: Any) -> DecodingStep | None:
    """Return the decoding step of a model inside `packed`, or None where it has none."""
    inner = inner_of(model)
    if type(inner) is not LlamaForCausalLM or any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()):
        return None
    try:
        return DecodingStep(inner)
    except _UnknownError:
        return None


def _layer(layer: Any) -> _Layer:
    if type(layer) is not LlamaDecoderLayer:
        raise _UnknownError
    attention, unit = _run_by(layer.self_attn, RotatedAttention), _run_by(layer.mlp, GatedUnit)
    config = layer.self_attn.config
    return _Layer(
        norm=_run_by(layer.input_layernorm, RootMeanSquare),
        qkv=_plain(attention.qkv),
        heads=(config.num_attention_heads, config.num_key_value_heads),
        scale=layer.self_attn.scaling,
        out=_plain(_run_by(layer.self_attn.o_proj, AdaptedProjection)),
        second_norm=_run_by(layer.post_attention_layernorm, RootMeanSquare),
        gate_up=_plain(unit.gate_up),
        down=_plain(_run_by(unit.down, AdaptedProjection)),
    )


def _run_by(module: nn.Module, kind: type[Any]) -> Any:
    """Return what runs a module in its stead, which must be of a kind."""
    forward = vars(module).get("forward")
    if type(forward) is not kind:
        raise _UnknownError
    return forward


def _plain(projection: Any) -> Projection:
    """Return a map that no adapter takes part in."""
    if type(projection) is not AdaptedProjection or projection.is_adapted:
        raise _UnknownError
    return projection.base


def _normed(norm: RootMeanSquare, x: Tensor) -> Tensor:
    return cast(Tensor, kernels.norm(x, norm.weight, norm.epsilon)[0])
