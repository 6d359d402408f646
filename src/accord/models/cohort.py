"""Rows that sample together: the keys and values of their prompts, held once a prompt, and of what each row has said.

A row attends to three things: what all prompts begin with, its own prompt, and itself. Each is one call of the fused kernel, for
all rows that share those keys at once, and their results are merged by the log of what their scores add up to. Reading a prompt
once for its whole group is most of what a group is worth: at these sizes attention is bound by what it reads.

Nothing is copied as answers grow: what is said is kept in buckets of `BUCKET` tokens, allocated when the first row gets there.

Shapes: R rows, P prompts, H query heads, K key heads, G = H / K, L positions, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BUCKET = 128

KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Looked:
    """What attention to one part gave, and the log of its scores' sum. Shapes [R, H, D] and [R, H], fp32."""

    value: Tensor
    weight: Tensor


@dataclass(slots=True)
class Cohort:
    """Rows that were admitted together, so that all have said as many tokens.

    `rows` are their numbers among all rows of a call, `prompt_R` their prompts' places. `prompts` holds, by layer, keys and values
    [P, K, L, D], each prompt's at the right end; `bias_P11L` is -inf where there is none (None: all are as long). `said` holds, by
    layer, buckets [R, K, BUCKET, D]; `n_said` tokens are in them.
    """

    rows: Tensor
    prompt_R: Tensor
    lengths_R: Tensor
    uniforms: Tensor
    bias_P11L: Tensor | None
    prompts: list[KeysValues]
    said: list[list[KeysValues]]
    n_said: int = 0
    alive_R: Tensor = field(init=False)
    seats: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.alive_R = torch.ones_like(self.rows, dtype=torch.bool)
        self._seat()

    @property
    def n_alive(self) -> int:
        """How many rows have not ended."""
        return int(self.alive_R.sum())

    def say(self, layer: int, keys_RKD: Tensor, values_RKD: Tensor) -> None:
        """Keep the keys and values of each row's next token."""
        n, place = divmod(self.n_said, BUCKET)
        if len(self.said[layer]) == n:
            R, K, D = keys_RKD.shape
            self.said[layer].append((keys_RKD.new_empty(R, K, BUCKET, D), values_RKD.new_empty(R, K, BUCKET, D)))
        for bucket, new in zip(self.said[layer][n], (keys_RKD, values_RKD), strict=True):
            bucket[:, :, place] = new

    def look(self, layer: int, query_RHD: Tensor, scale: float) -> list[Looked]:
        """Return what each row finds in its own prompt and in what it has said, the token that asks among it."""
        found = [self._at_prompts(layer, query_RHD, scale)]
        left = self.n_said + 1
        for keys, values in self.said[layer]:
            n = min(left, BUCKET)
            query = by_key_head(query_RHD, keys.shape[1])
            found.append(_rows(*fused(query, keys[:, :, :n], values[:, :, :n], None, scale)))
            left -= n
        return found

    def _at_prompts(self, layer: int, query_RHD: Tensor, scale: float) -> Looked:
        keys, values = self.prompts[layer]
        seat_PM, place_R = self.seats
        (P, M), (R, H, D), K = seat_PM.shape, query_RHD.shape, keys.shape[1]
        if P * M != R:
            query_RHD = query_RHD[seat_PM.flatten()]
        query = query_RHD.view(P, M, K, -1, D).transpose(1, 2).reshape(P, K, -1, D)
        value, weight = fused(query, keys, values, self.bias_P11L, scale)
        value = value.view(P, K, M, -1, D).transpose(1, 2).reshape(P * M, H, D)
        weight = weight.view(P, K, M, -1).transpose(1, 2).reshape(P * M, H)
        return Looked(value, weight) if P * M == R else Looked(value[place_R], weight[place_R])

    def drop_ended(self) -> None:
        """Give the memory of rows that have ended free, and of prompts that no row needs any more."""
        alive = self.alive_R
        self.rows, self.lengths_R, self.uniforms = self.rows[alive], self.lengths_R[alive], self.uniforms[alive]
        kept_P, self.prompt_R = self.prompt_R[alive].unique(return_inverse=True)
        if len(kept_P) < len(self.prompts[0][0]):
            self.prompts = [(keys[kept_P], values[kept_P]) for keys, values in self.prompts]
            self.bias_P11L = None if self.bias_P11L is None else self.bias_P11L[kept_P]
        self.said = [[(keys[alive], values[alive]) for keys, values in buckets] for buckets in self.said]
        self.alive_R = alive[alive]
        self._seat()

    def _seat(self) -> None:
        """Seat the rows by prompt, as many seats a prompt as the largest group has; an empty seat asks what some row asks anyway.

        Rows of one prompt stand together, in the prompts' order: where all groups are as large, seats are rows.
        """
        counts_P = torch.bincount(self.prompt_R)
        starts_P = counts_P.cumsum(0) - counts_P
        M = int(counts_P.max())
        rows = torch.arange(len(self.prompt_R), device=self.prompt_R.device)
        place_R = self.prompt_R * M + rows - starts_P[self.prompt_R]
        seat_PM = rows.new_zeros(len(counts_P) * M)
        seat_PM[place_R] = rows
        self.seats = seat_PM.view(-1, M), place_R


def look_at_prefix(prefix: KeysValues, query_RHD: Tensor, scale: float) -> Looked:
    """Return what rows find in what all prompts begin with, [1, K, L, D]: one matrix of all rows' queries."""
    keys, values = prefix
    (R, H, D), K = query_RHD.shape, keys.shape[1]
    query = query_RHD.view(R, K, -1, D).transpose(0, 1).reshape(1, K, -1, D)
    value, weight = fused(query, keys, values, None, scale)
    return Looked(
        value.view(K, R, -1, D).transpose(0, 1).reshape(R, H, D), weight.view(K, R, -1).transpose(0, 1).reshape(R, H)
    )


def merged_looks(parts: Sequence[Looked]) -> Tensor:
    """Return attention to all parts together: each part's result, weighted by its share of the scores' sum. [R, H, D], fp32."""
    if len(parts) == 1:
        return parts[0].value
    share = torch.stack([part.weight for part in parts]).softmax(0)
    total = share[0, ..., None] * parts[0].value
    for n, part in enumerate(parts[1:], 1):
        total = torch.addcmul(total, share[n, ..., None], part.value)
    return total


def by_key_head(query_RHD: Tensor, n_key_heads: int) -> Tensor:
    """Lay a row's query heads out under the key heads that they share: [R, H, D] to [R, K, G, D]."""
    R, _, D = query_RHD.shape
    return query_RHD.view(R, n_key_heads, -1, D)


def _rows(value_RKGD: Tensor, weight_RKG: Tensor) -> Looked:
    return Looked(value_RKGD.flatten(1, 2), weight_RKG.flatten(1, 2))


def fused(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Return attention, [B, K, n, D], and the log of its scores' sum, [B, K, n], both fp32."""
    if query.device.type == "cpu":
        if bias is not None:
            bias = bias.expand(-1, -1, query.shape[2], -1)
        value, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, keys, values, attn_mask=bias, scale=scale
        )
        return value.float(), weight
    scores = (query @ keys.transpose(-1, -2)).float() * scale
    if bias is not None:
        scores = scores + bias
    weight = scores.logsumexp(-1)
    shares = (scores - weight[..., None]).exp().to(values.dtype)
    return (shares @ values).float(), weight
