"""Attention over rows that hold many trees: each part of a tree is multiplied with the keys that it may see, and no others.

A row's mask forbids most of what is in it (a tree's neighbours, an answer's siblings), and attention under a mask computes
that as well. On the CPU the fused kernel's backward pass is slow besides, in bf16 most of all (figures in docs/log.md). Here
attention is a few matrix products a segment, forward and backward, and nothing grows with the square of a row.

Shapes: B rows, L positions, H query heads, K key heads, G = H / K, D head size; of one segment n queries and m keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "accord_segments"


@dataclass(frozen=True, slots=True)
class Segment:
    """Queries that stand together, and their keys: columns `start` to `end` of a row see the columns `keys`, as the mask says."""

    row: int
    start: int
    end: int
    keys: Tensor


@dataclass(frozen=True, slots=True)
class _Layout:
    segments: Sequence[Segment]
    mask_B1LL: Tensor
    kept: dict[tuple[torch.dtype, int], list[Tensor]] = field(default_factory=dict)

    def biases(self, dtype: torch.dtype, groups: int) -> list[Tensor]:
        """Return 0 or -inf by query and key of each segment, the queries of all heads of a group in turn. Shape [1, G n, m]."""
        if (dtype, groups) not in self.kept:
            self.kept[dtype, groups] = [self._bias(s, dtype).repeat(groups, 1)[None] for s in self.segments]
        return self.kept[dtype, groups]

    def _bias(self, segment: Segment, dtype: torch.dtype) -> Tensor:
        seen = self.mask_B1LL[segment.row, 0, segment.start : segment.end].index_select(1, segment.keys)
        return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, -torch.inf)


_layout: ContextVar[_Layout | None] = ContextVar("layout", default=None)


@contextmanager
def by_segment(decoder: nn.Module, segments: Sequence[Segment], mask_B1LL: Tensor) -> Iterator[None]:
    """Let a decoder attend by segment, where it would use PyTorch's fused kernel on the CPU; elsewhere nothing is changed.

    What stands in no segment (padding) gets zeros for its attention.
    """
    configs = {id(c): c for m in decoder.modules() if (c := getattr(m, "config", None)) is not None}
    configs = {k: c for k, c in configs.items() if getattr(c, "_attn_implementation", None) == "sdpa"}
    if mask_B1LL.device.type != "cpu" or not configs:
        yield
        return
    token = _layout.set(_Layout(segments, mask_B1LL))
    for config in configs.values():
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config in configs.values():
            config._attn_implementation = "sdpa"
        _layout.reset(token)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions: [B, H, L, D] and [B, K, L, D] to [B, L, H, D]."""
    layout = _layout.get()
    special = dropout or any(more.get(name) is not None for name in ("softcap", "position_bias", "s_aux"))
    if layout is None or special or attention_mask is not layout.mask_B1LL:
        fused: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return fused
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    y_BLHD: Tensor = _Attention.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    return y_BLHD, None


class _Attention(torch.autograd.Function):
    """y = P V with P = softmax(s Q K^T + bias); dV = P^T g, dS = P (g V^T - rowsum(P g V^T)), dQ = s dS K, dK = s dS^T Q."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: _Layout, scale: float) -> Tensor:
        B, H, L, D = query.shape
        K = key.shape[1]
        y_BLHD = query.new_zeros(B, L, H, value.shape[-1])
        saved: list[Tensor] = []
        for s, bias in zip(layout.segments, layout.biases(query.dtype, H // K), strict=True):
            q = query[s.row, :, s.start : s.end].reshape(K, -1, D)
            k, v = key[s.row].index_select(1, s.keys), value[s.row].index_select(1, s.keys)
            p = torch.baddbmm(bias, q, k.transpose(1, 2), alpha=scale).softmax(-1)
            y_BLHD[s.row, s.start : s.end] = torch.bmm(p, v).view(H, s.end - s.start, -1).transpose(0, 1)
            saved += [q, k, v, p]
        ctx.save_for_backward(*saved)
        ctx.segments, ctx.scale, ctx.shapes = layout.segments, scale, (query.shape, key.shape, value.shape)
        return y_BLHD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (g_BLHD,) = grads
        dq, dk, dv = (g_BLHD.new_zeros(shape) for shape in ctx.shapes)
        saved = iter(ctx.saved_tensors)
        K = dk.shape[1]
        for s in ctx.segments:
            q, k, v, p = (next(saved) for _ in range(4))
            g = g_BLHD[s.row, s.start : s.end].transpose(0, 1).reshape(K, q.shape[1], -1)
            dv[s.row].index_add_(1, s.keys, torch.bmm(p.transpose(1, 2), g))
            ds = torch._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), p, -1, p.dtype)
            dq[s.row, :, s.start : s.end] = torch.bmm(ds, k).view(dq.shape[1], s.end - s.start, -1)
            dk[s.row].index_add_(1, s.keys, torch.bmm(ds.transpose(1, 2), q))
        return dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv, None, None


AttentionInterface.register(NAME, _attend)
