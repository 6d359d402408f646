"""Attention over rows that hold many trees: each part of a tree is multiplied with the keys that it may see, and few others.

A row's mask forbids most of what is in it (a tree's neighbours, an answer's siblings), and attention under a mask computes
that as well. On the CPU the fused kernel's backward pass is slow besides, in bf16 most of all (figures in docs/log.md). There
parts of like size are multiplied together, forward and backward, and nothing grows with the square of a row. On a GPU
FlexAttention leaves out each block of 128 queries and 128 keys of which the mask allows nothing.

Shapes: B rows, L positions, H query heads, K key heads, G = H / K, D head size; of one stack S parts, n queries and m keys a part.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from accord.models.kernels import compiled, has_compiler

NAME = "accord_segments"
# FlexAttention is compiled for tens of seconds, and takes heads of at least 16; in short rows the fused kernel is as fast.
LEAST_BLOCKED_ROW, LEAST_BLOCKED_HEAD = 2048, 16
# How far below a stack its attention lies, at most: layers, layer, attention, in some once more. What adapters hold lies deeper.
ATTENTION_DEPTH = 4
# Parts stand in one stack while their padded area is at most so many times the sum of their own.
MOST_PADDING = 1.4


@dataclass(frozen=True, slots=True)
class Segment:
    """Queries that stand together, and their keys: columns `start` to `end` of a row see the columns `keys`, as the mask says."""

    row: int
    start: int
    end: int
    keys: Tensor


@dataclass(frozen=True, slots=True)
class _Stack:
    """Parts of like size: which positions (row * L + column) are their queries and keys, padded to the largest.

    A part's padding repeats its last query; `padding_P` says where, among the S n queries. What is added to the scores is 0 or
    -inf, by query (those of all heads of a group in turn) and key.
    """

    queries_Sn: Tensor
    keys_Sm: Tensor
    padding_P: Tensor
    bias_SGnm: Tensor


@dataclass(frozen=True, slots=True)
class _Layout(ABC):
    """What one batch's attention is: the mask that stands for it, and the configurations that say how layers attend."""

    # The smallest heads that it can attend with.
    least_head: ClassVar[int] = 1
    mask_B1LL: Tensor
    configs: Sequence[Any]

    @abstractmethod
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return what each position gets. Shapes [B, H, L, D] and [B, K, L, D] to [B, L, H, D]."""


@dataclass(frozen=True, slots=True)
class _InBlocks(_Layout):
    least_head: ClassVar[int] = LEAST_BLOCKED_HEAD
    blocks: BlockMask

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        grouped = query.shape[1] != key.shape[1]
        y = _flex()(query, key, value, block_mask=self.blocks, scale=scale, enable_gqa=grouped)
        return cast(Tensor, y).transpose(1, 2).contiguous()


@functools.cache
def _flex() -> Callable[..., Any]:
    """FlexAttention as one kernel; uncompiled it would hold all scores."""
    return compiled(flex_attention, dynamic=True)


def blocks_of(mask_B1LL: Tensor) -> BlockMask:
    """Return which blocks of a mask allow anything, and which allow all."""
    B, _, L, _ = mask_B1LL.shape

    def allowed(b: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return mask_B1LL[b, 0, query, key]

    return create_block_mask(allowed, B, None, L, L, device=str(mask_B1LL.device))


@dataclass(frozen=True, slots=True)
class _InStacks(_Layout):
    segments: Sequence[Segment]
    kept: dict[tuple[torch.dtype, int, int], list[_Stack]] = field(default_factory=dict)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        # Not wherever no gradient is taken: a reference must round as what is trained does.
        if torch.is_inference_mode_enabled():
            return self._look(query, key, value, scale)
        return cast(Tensor, _Attention.apply(query, key, value, self, scale))  # type: ignore[no-untyped-call]

    def _look(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As `attend`, by the fused kernel: twice as fast (docs/log.md) where nothing is kept for a backward pass."""
        (B, H, L, D), K = query.shape, key.shape[1]
        flat = [x.transpose(1, 2).reshape(B * L, -1) for x in (query, key, value)]
        y_LD = query.new_zeros(B * L, H * D)
        for stack in self.stacks(query.dtype, H, K):
            S = len(stack.queries_Sn)
            q, k, v = (
                _by_head(x, at, K, D).view(S, K, -1, D)
                for x, at in zip(flat, (stack.queries_Sn, stack.keys_Sm, stack.keys_Sm), strict=True)
            )
            bias = stack.bias_SGnm.view(S, K, -1, k.shape[2])[:, :1]
            y = F.scaled_dot_product_attention(q, k, v, bias, scale=scale)
            y_LD.index_copy_(0, stack.queries_Sn.flatten(), _by_position(y.flatten(0, 1), stack.queries_Sn, K))
        return y_LD.view(B, L, H, D)

    def stacks(self, dtype: torch.dtype, n_heads: int, n_key_heads: int) -> list[_Stack]:
        """Return the parts in stacks; made once, for all layers."""
        key = (dtype, n_heads, n_key_heads)
        if key not in self.kept:
            self.kept[key] = [self._stack(s, dtype, n_heads // n_key_heads, n_key_heads) for s in _alike(self.segments)]
        return self.kept[key]

    def _stack(self, segments: Sequence[Segment], dtype: torch.dtype, groups: int, n_key_heads: int) -> _Stack:
        L = self.mask_B1LL.shape[-1]
        n, m = max(s.end - s.start for s in segments), max(len(s.keys) for s in segments)
        queries = torch.stack([(torch.arange(n) + s.start).clamp_max(s.end - 1) for s in segments])
        keys = torch.stack([F.pad(s.keys, (0, m - len(s.keys)), value=int(s.keys[0])) for s in segments])
        rows = torch.tensor([s.row for s in segments])
        seen_Snm = self.mask_B1LL[rows[:, None, None], 0, queries[:, :, None], keys[:, None]]
        seen_Snm &= (torch.arange(m)[None] < torch.tensor([[len(s.keys)] for s in segments]))[:, None]
        bias_Snm = torch.zeros(seen_Snm.shape, dtype=dtype).masked_fill(~seen_Snm, -torch.inf)
        bias = bias_Snm[:, None, None].expand(-1, n_key_heads, groups, -1, -1)
        padding = torch.arange(n)[None] >= torch.tensor([[s.end - s.start] for s in segments])
        return _Stack(
            queries + rows[:, None] * L,
            keys + rows[:, None] * L,
            padding.flatten().nonzero().flatten(),
            bias.reshape(len(segments) * n_key_heads, groups * n, m),
        )


def _alike(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Group parts so that padding each group's to its largest costs little."""
    stacks: list[list[Segment]] = []
    n = m = area = 0
    for s in sorted(segments, key=lambda s: (-len(s.keys), s.start - s.end)):
        own = (s.end - s.start) * len(s.keys)
        padded = max(n, s.end - s.start) * m * (len(stacks[-1]) + 1) if stacks else 0
        if not stacks or padded > MOST_PADDING * (area + own):
            stacks.append([])
            n, m, area = 0, len(s.keys), 0
        stacks[-1].append(s)
        n, area = max(n, s.end - s.start), area + own
    return stacks


_layout: ContextVar[_Layout | None] = ContextVar("layout", default=None)


@contextmanager
def by_parts(decoder: nn.Module, segments: Sequence[Segment], mask_B1LL: Tensor) -> Iterator[None]:
    """Let a decoder that would use PyTorch's fused kernel attend by segment on the CPU, and long rows by block on a GPU.

    Elsewhere nothing is changed. What stands in no segment (padding) gets zeros for its attention on the CPU.
    """
    configs = {id(c): c for m in _within(decoder) if (c := getattr(m, "config", None)) is not None}
    fused = tuple(c for c in configs.values() if getattr(c, "_attn_implementation", None) == "sdpa")
    if not fused:
        yield
        return
    if mask_B1LL.device.type == "cpu":
        layout: _Layout = _InStacks(mask_B1LL, fused, segments)
    elif mask_B1LL.shape[-1] >= LEAST_BLOCKED_ROW and has_compiler(mask_B1LL.device.type):
        layout = _InBlocks(mask_B1LL, fused, blocks_of(mask_B1LL))
    else:
        yield
        return
    with _Attending(layout):
        yield


def _within(module: nn.Module, depth: int = ATTENTION_DEPTH) -> Iterator[nn.Module]:
    yield module
    for child in module.children() if depth else ():
        yield from _within(child, depth - 1)


class _Attending(AbstractContextManager[None]):
    """Sets a layout, and back what was set before. It can be entered again: a graph may be run backward more than once."""

    def __init__(self, layout: _Layout) -> None:
        self.layout = layout

    def __enter__(self) -> None:
        self.before = [config._attn_implementation for config in self.layout.configs]
        self.token: Token[_Layout | None] = _layout.set(self.layout)
        for config in self.layout.configs:
            config._attn_implementation = NAME

    def __exit__(self, *_: object) -> None:
        for config, name in zip(self.layout.configs, self.before, strict=True):
            config._attn_implementation = name
        _layout.reset(self.token)


def attend_alike() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return a context for a layer's forward pass, which changes nothing, and one to compute it again, later, as it is done now.

    The backward pass runs outside `by_parts`: there a layer would attend under another implementation than it did.
    """
    layout = _layout.get()
    return nullcontext(), nullcontext() if layout is None else _Attending(layout)


def is_special(query: Tensor, value: Tensor, more: Mapping[str, Any]) -> bool:
    """Whether attention is more than queries, keys and values of one size: `more` holds sinks, a cap or a bias."""
    return query.shape[-1] != value.shape[-1] or any(
        more.get(name) is not None for name in ("softcap", "position_bias", "s_aux")
    )


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
    special = dropout > 0 or is_special(query, value, more)
    special |= layout is not None and query.shape[-1] < layout.least_head
    if layout is None or special or attention_mask is not layout.mask_B1LL:
        fused: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return fused
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return layout.attend(query, key, value, scale), None


class _Attention(torch.autograd.Function):
    """y = P V with P = softmax(s Q K^T + bias); dV = P^T g, dS = P (g V^T - rowsum(P g V^T)), dQ = s dS K, dK = s dS^T Q."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: _InStacks, scale: float) -> Tensor:
        B, H, L, D = query.shape
        K = key.shape[1]
        flat = [x.transpose(1, 2).reshape(B * L, -1) for x in (query, key, value)]
        y_LD = query.new_zeros(B * L, H * D)
        saved: list[Tensor] = []
        stacks = layout.stacks(query.dtype, H, K)
        for stack in stacks:
            q = _by_head(flat[0], stack.queries_Sn, K, D)
            k, v = (_by_head(x, stack.keys_Sm, K, D) for x in flat[1:])
            p = torch.baddbmm(stack.bias_SGnm, q, k.transpose(1, 2), alpha=scale).softmax(-1)
            y_LD.index_copy_(0, stack.queries_Sn.flatten(), _by_position(torch.bmm(p, v), stack.queries_Sn, K))
            saved += [q, k, v, p]
        ctx.save_for_backward(*saved)
        ctx.stacks, ctx.scale, ctx.shape = stacks, scale, (B, H, K, L, D)
        return y_LD.view(B, L, H, D)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        B, H, K, L, D = ctx.shape
        g_LD = grads[0].reshape(B * L, H * D)
        dq, dk, dv = (g_LD.new_zeros(B * L, heads * D) for heads in (H, K, K))
        saved = iter(ctx.saved_tensors)
        for stack in ctx.stacks:
            q, k, v, p = (next(saved) for _ in range(4))
            g = _by_head(g_LD, stack.queries_Sn, K, D, stack.padding_P)
            ds = torch._softmax_backward_data(torch.bmm(g, v.transpose(1, 2)), p, -1, p.dtype)
            for into, at, value in (
                (dq, stack.queries_Sn, torch.bmm(ds, k)),
                (dk, stack.keys_Sm, torch.bmm(ds.transpose(1, 2), q)),
                (dv, stack.keys_Sm, torch.bmm(p.transpose(1, 2), g)),
            ):
                into.index_add_(0, at.flatten(), _by_position(value, at, K))
        dq, dk, dv = (x.view(B, L, -1, D).transpose(1, 2) for x in (dq.mul_(ctx.scale), dk.mul_(ctx.scale), dv))
        return dq, dk, dv, None, None


def _by_head(x_LD: Tensor, at_Sn: Tensor, n_key_heads: int, head_size: int, zeroed: Tensor | None = None) -> Tensor:
    """Gather positions, and lay them out by part and key head: [B L, heads D] to [S K, G n, D]."""
    S, n = at_Sn.shape
    got = x_LD.index_select(0, at_Sn.flatten())
    if zeroed is not None and len(zeroed):
        got.index_fill_(0, zeroed, 0.0)
    return got.view(S, n, n_key_heads, -1, head_size).permute(0, 2, 3, 1, 4).reshape(S * n_key_heads, -1, head_size)


def _by_position(x: Tensor, at_Sn: Tensor, n_key_heads: int) -> Tensor:
    """The inverse: [S K, G n, D] to [S n, heads D]."""
    S, n = at_Sn.shape
    return x.view(S, n_key_heads, -1, n, x.shape[-1]).permute(0, 3, 1, 2, 4).reshape(S * n, -1)


AttentionInterface.register(NAME, _attend)
