"""Rollouts: batched sampling from a causal language model.

Prompts are grouped by length; keys and values live in memory allocated once for a group; a row that has ended leaves the
batch; adapters are folded into the weights while sampling; a token is drawn by inverting the cumulative distribution at one
uniform number, which belongs to (seed, row) alone, so that what else is in the batch does not change a row's luck.

A group's common prefix (a system prompt, demonstrations in context) is computed once.

Left out of this first form: several samples of one prompt, top-p, replacing ended rows from a queue.

Shapes: B rows, T positions, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicLayer

from accord.models.adapters import merged
from accord.models.packed import packed
from accord.models.tree import common_prefix

# Ended rows are dropped from memory once they are this share of the batch: dropping copies the cache.
COMPACT_SHARE = 0.15
PREFILL_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy."""

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer: its ids (with the end token, unless it was cut), their log-probabilities as sampled."""

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    truncated: bool


class _PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer for B rows, in memory allocated once; `update` writes in place and returns views.

    Columns: the group's common prefix first, the same for every row; then each row's own prompt, left-padded so that every
    prompt ends at column `width - 1`; then one column a step.
    """

    def __init__(self, n_rows: int, width: int, capacity: int) -> None:
        super().__init__()
        self.n_rows, self.n_left, self.n_columns = n_rows, width, capacity
        self.n_used = 0
        self.prefix: tuple[Tensor, Tensor] | None = None
        self.filling: slice | None = None
        self.key_store: Tensor | None = None
        self.value_store: Tensor | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if self.key_store is None or self.value_store is None:
            H, n, D = key_states.shape[1:]
            # Padding columns are masked, but a stray NaN in fresh memory would survive the mask: begin with zeros.
            self.key_store = key_states.new_zeros(self.n_rows, H, self.n_columns, D)
            self.value_store = value_states.new_zeros(self.n_rows, H, self.n_columns, value_states.shape[-1])
            self.is_initialized = True
            if self.filling is None:
                self.prefix = (key_states, value_states)
                self.key_store[:, :, :n], self.value_store[:, :, :n] = key_states, value_states
                return key_states, value_states
        if self.filling is not None:
            n = key_states.shape[0]
            start = self.n_left - key_states.shape[2]
            self.key_store[self.filling, :, start : self.n_left] = key_states
            self.value_store[self.filling, :, start : self.n_left] = value_states
            if self.prefix is None:
                return key_states, value_states
            keys, values = (
                torch.cat([p.expand(n, -1, -1, -1), s], dim=2)
                for p, s in zip(self.prefix, (key_states, value_states), strict=True)
            )
            return keys, values
        self.key_store[:, :, self.n_used] = key_states[:, :, 0]
        self.value_store[:, :, self.n_used] = value_states[:, :, 0]
        self.n_used += 1
        return self.key_store[:, :, : self.n_used], self.value_store[:, :, : self.n_used]

    def get_seq_length(self, *_: Any) -> int:
        return self.n_used

    def keep(self, rows: Tensor) -> None:
        """Drop every other row from memory."""
        if self.key_store is not None and self.value_store is not None:
            self.key_store, self.value_store = self.key_store[rows], self.value_store[rows]


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    end_ids: frozenset[int],
    sampling: Sampling,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
) -> list[Rollout]:
    """Sample one answer a prompt, in the order given.

    `keys` name the rows: a row's random numbers come from (seed, key). `on_batch(rows, tokens)` is called after each group.
    """
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    results: dict[int, Rollout] = {}
    with torch.inference_mode(), merged(model), packed(model):
        for start in range(0, len(order), batch_size):
            group = order[start : start + batch_size]
            rollouts = _generate_group(model, [prompts[i] for i in group], [keys[i] for i in group], end_ids, sampling)
            results.update(zip(group, rollouts, strict=True))
            if on_batch:
                on_batch(len(group), sum(len(r.ids) for r in rollouts))
    return [results[i] for i in range(len(prompts))]


def _generate_group(
    model: Any, prompts: Sequence[Sequence[int]], keys: Sequence[str], end_ids: frozenset[int], sampling: Sampling
) -> list[Rollout]:
    device = next(model.parameters()).device
    B, T = len(prompts), max(len(p) for p in prompts)
    capacity = T + sampling.max_new_tokens
    layers = [_PreallocatedLayer(B, T, capacity) for _ in range(model.config.num_hidden_layers)]
    cache = Cache(layers=layers)
    # Less than the shortest prompt has, so that each row has a last token.
    n_prefix = min(common_prefix(prompts), min(len(p) for p in prompts) - 1)
    logits = _prefill(model, cache, layers, prompts, n_prefix, device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    column = torch.arange(capacity, device=device)[None]
    attend = (column < n_prefix) | (column >= (T - lengths + n_prefix)[:, None])
    uniforms = _uniforms(keys, sampling).to(device)
    ends = torch.tensor(sorted(end_ids), device=device)
    rows = torch.arange(B, device=device)
    alive = torch.ones(B, dtype=torch.bool, device=device)
    out_ids: list[list[int]] = [[] for _ in range(B)]
    out_logps: list[list[float]] = [[] for _ in range(B)]
    ended = [False] * B
    # Where every prompt has the same length nothing is masked, and a call without a mask has the faster kernel.
    padded = bool((lengths != T).any())
    for step in range(sampling.max_new_tokens):
        tokens, logps = _draw(logits, uniforms[rows, step], sampling.temperature)
        stop = torch.isin(tokens, ends)
        for row, token, logp, live, last in zip(
            rows.tolist(), tokens.tolist(), logps.tolist(), alive.tolist(), stop.tolist(), strict=True
        ):
            if live:
                out_ids[row].append(token)
                out_logps[row].append(logp)
                ended[row] = last
        alive &= ~stop
        n_alive = int(alive.sum())
        if n_alive == 0 or step + 1 == sampling.max_new_tokens:
            break
        if n_alive <= (1 - COMPACT_SHARE) * len(rows):
            rows, tokens = rows[alive], tokens[alive]
            for layer in layers:
                layer.keep(alive)
            alive = alive[alive]
        mask = attend[rows, None, None, : T + step + 1] if padded else None
        positions = (lengths[rows] + step)[:, None]
        logits = _last_logits(model, cache, tokens[:, None], positions, mask)
    return [Rollout(tuple(i), tuple(p), not e) for i, p, e in zip(out_ids, out_logps, ended, strict=True)]


def _prefill(
    model: Any,
    cache: Cache,
    layers: Sequence[_PreallocatedLayer],
    prompts: Sequence[Sequence[int]],
    n_prefix: int,
    device: torch.device,
) -> Tensor:
    """Run the prompts through the model: their common prefix once, then a few rows of like length at a time.

    Returns the last position's logits [B, V].
    """
    if n_prefix:
        head = torch.tensor([list(prompts[0][:n_prefix])], dtype=torch.long, device=device)
        _last_logits(model, cache, head, torch.arange(n_prefix, device=device)[None], None)
    parts: list[Tensor] = []
    start = 0
    while start < len(prompts):
        # Prompts come sorted by length: a slice is padded to its own longest, not to the group's.
        end = start + 1
        while end < len(prompts) and (len(prompts[end]) - n_prefix) * (end + 1 - start) <= PREFILL_TOKENS:
            end += 1
        own = [p[n_prefix:] for p in prompts[start:end]]
        t = max(len(p) for p in own)
        ids = torch.zeros(len(own), t, dtype=torch.long)
        real = torch.zeros(len(own), t, dtype=torch.bool)
        for b, prompt in enumerate(own):
            ids[b, t - len(prompt) :] = torch.tensor(list(prompt))
            real[b, t - len(prompt) :] = True
        ids, real = ids.to(device), real.to(device)
        positions = n_prefix + (real.cumsum(1) - 1).clamp_min(0)
        itself = torch.eye(t, dtype=torch.bool, device=device)
        within = (real[:, None, None, :] & torch.ones_like(itself).tril()) | itself
        mask = torch.cat([within.new_ones(len(own), 1, t, n_prefix), within], dim=-1)
        for layer in layers:
            layer.filling = slice(start, end)
        parts.append(_last_logits(model, cache, ids, positions, mask))
        start = end
    for layer in layers:
        layer.filling, layer.prefix, layer.n_used = None, None, layer.n_left
    return torch.cat(parts)


def _last_logits(model: Any, cache: Cache, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
    output = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, cache=cache, use_cache=True, logits_to_keep=1
    )
    return output.logits[:, -1]  # type: ignore[no-any-return]


def _draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return a token a row and its log-probability under the distribution that it was drawn from."""
    logits_BV = logits_BV.float()
    if temperature == 0:
        tokens = logits_BV.argmax(-1)
        return tokens, logits_BV.gather(1, tokens[:, None]).squeeze(1) - logits_BV.logsumexp(-1)
    logps_BV = F.log_softmax(logits_BV / temperature, dim=-1)
    # In fp64 the last of 50,000 partial sums still stands within 1e-12 of 1.
    cumulative = logps_BV.exp().double().cumsum(-1)
    tokens = torch.searchsorted(cumulative, uniform_B.double()[:, None] * cumulative[:, -1:]).squeeze(1)
    tokens = tokens.clamp_max(logits_BV.shape[1] - 1)
    return tokens, logps_BV.gather(1, tokens[:, None]).squeeze(1)


def _uniforms(keys: Sequence[str], sampling: Sampling) -> Tensor:
    """Uniform numbers [B, max_new_tokens], each row from its own generator."""
    rows = np.empty((len(keys), sampling.max_new_tokens))
    for b, key in enumerate(keys):
        digest = hashlib.sha256(f"{sampling.seed}:{key}".encode()).digest()
        rows[b] = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big"))).random(
            sampling.max_new_tokens
        )
    return torch.from_numpy(rows)
