"""Drawing tokens: temperature, top-k, top-p and min-p, by a luck that belongs to a row alone.

A token is drawn by inverting the cumulative distribution at one uniform number, which comes from (seed, key, step): what else is in
the batch does not change a row's luck. Partial sums are taken by blocks first, then within one block: of 50,000 numbers a row only
a few hundred are added up in fp64.

Shapes: B rows, V vocabulary, N blocks of M tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from accord.errors import SettingsError

BLOCK = 128
# Top-p is looked for among so many likeliest tokens first; only rows that need more are sorted whole.
NUCLEUS = 512


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy.

    Of the tempered distribution only the `top_k` likeliest tokens are kept (0: all), then those that are at least `min_p` times as
    likely as the likeliest, then the likeliest that together reach `top_p`. An answer ends where its text holds a string of `stop`.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {value}; expected {expected}"
            for name, value, expected, right in (
                ("max_new_tokens", self.max_new_tokens, "at least 1", self.max_new_tokens >= 1),
                ("temperature", self.temperature, "at least 0", self.temperature >= 0),
                ("top_p", self.top_p, "above 0 and at most 1", 0 < self.top_p <= 1),
                ("top_k", self.top_k, "at least 0", self.top_k >= 0),
                ("min_p", self.min_p, "at least 0 and below 1", 0 <= self.min_p < 1),
                ("stop", self.stop, "strings that are not empty", all(self.stop)),
            )
            if not right
        ]
        if wrong:
            raise SettingsError("; ".join(wrong))


def draw(logits_BV: Tensor, uniform_B: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Return a token a row and its log-probability under the distribution that it was drawn from. Shapes [B]."""
    logits_BV = logits_BV.float()
    if sampling.temperature == 0:
        tokens = logits_BV.argmax(-1)
        return tokens, logits_BV.gather(1, tokens[:, None]).squeeze(1) - logits_BV.logsumexp(-1)
    if sampling.temperature != 1:
        logits_BV = logits_BV / sampling.temperature
    logits_BV = _kept(logits_BV, sampling)
    top_B1 = logits_BV.amax(-1, keepdim=True)
    shares_BV = (logits_BV - top_B1).exp_()
    shares_BNM = F.pad(shares_BV, (0, -shares_BV.shape[1] % BLOCK)).view(len(shares_BV), -1, BLOCK)
    sums_BN = shares_BNM.sum(-1).double().cumsum(-1)
    target_B1 = uniform_B.double()[:, None] * sums_BN[:, -1:]
    block_B1 = _first_above(sums_BN, target_B1)
    before_B1 = torch.where(block_B1 > 0, sums_BN.gather(1, (block_B1 - 1).clamp_min(0)), 0.0)
    within_BM = (
        shares_BNM[torch.arange(len(shares_BNM), device=block_B1.device), block_B1.squeeze(1)].double().cumsum(-1)
    )
    place_B1 = _first_above(within_BM, target_B1 - before_B1)
    tokens_B1 = block_B1 * BLOCK + place_B1
    logps_B1 = logits_BV.gather(1, tokens_B1) - top_B1 - sums_BN[:, -1:].log().float()
    return tokens_B1.squeeze(1), logps_B1.squeeze(1)


def _first_above(sums_BN: Tensor, target_B1: Tensor) -> Tensor:
    """Return where partial sums first exceed the target; where rounding has none do so, where they first reach their end.

    Either place added something to the sum, so that what has no probability is never drawn. Shape [B, 1].
    """
    last_B1 = (sums_BN < sums_BN[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(torch.searchsorted(sums_BN, target_B1, right=True), last_B1)


def _kept(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Set what is not to be drawn to -inf."""
    if sampling.top_k and sampling.top_k < logits_BV.shape[1]:
        least_B1 = logits_BV.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if sampling.min_p:
        least_B1 = logits_BV.amax(-1, keepdim=True) + float(np.log(sampling.min_p))
        logits_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    if sampling.top_p < 1:
        logits_BV = logits_BV.masked_fill(logits_BV < _least_of_nucleus(logits_BV, sampling.top_p), -torch.inf)
    return logits_BV


def _least_of_nucleus(logits_BV: Tensor, top_p: float) -> Tensor:
    """Return the logit of the last token that the likeliest need to reach `top_p`. Shape [B, 1]."""
    total_B1 = logits_BV.logsumexp(-1, keepdim=True)
    sorted_BK = logits_BV.topk(min(NUCLEUS, logits_BV.shape[1]), dim=-1).values
    reached_BK = (sorted_BK - total_B1).exp().cumsum(-1)
    short = reached_BK[:, -1] < top_p
    place_B1 = (reached_BK < top_p).sum(-1, keepdim=True).clamp_max(sorted_BK.shape[1] - 1)
    least_B1 = sorted_BK.gather(1, place_B1)
    if bool(short.any()) and sorted_BK.shape[1] < logits_BV.shape[1]:
        whole = logits_BV[short].sort(-1, descending=True).values
        reached = (whole - total_B1[short]).exp().cumsum(-1)
        place = (reached < top_p).sum(-1, keepdim=True).clamp_max(whole.shape[1] - 1)
        least_B1[short] = whole.gather(1, place)
    return least_B1


def uniforms(keys: Sequence[str], sampling: Sampling) -> Tensor:
    """Return uniform numbers, each row's from its own generator. Shape [B, max_new_tokens], fp64."""
    rows = np.empty((len(keys), sampling.max_new_tokens))
    for b, key in enumerate(keys):
        digest = hashlib.sha256(f"{sampling.seed}:{key}".encode()).digest()
        rows[b] = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big"))).random(
            sampling.max_new_tokens
        )
    return torch.from_numpy(rows)
