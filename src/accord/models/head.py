"""What is taken from the language-model head: log-probabilities and divergences at chosen positions, in chunks.

Logits over a whole vocabulary are the largest tensor of a training step, and needed only where a loss is taken. For a frozen
head the gradient with respect to the hidden state is known in the forward pass (one more matrix product a chunk, which the
backward pass would need anyway), so only [N, D] is kept instead of [N, V].

Shapes: N positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from accord.models.kernels import divergence, softmax_and_norm
from accord.models.projection import Projection

CHUNK_ROWS = 256
_NEVER = -1e4


def token_logps(hidden_ND: Tensor, head: Projection | Tensor, targets_N: Tensor) -> Tensor:
    """Return log p(target) at each position, in fp32. Shape [N].

    `head` is the weight [V, D], trained or not, or a frozen head's packed `Projection`. Differentiable in `hidden_ND`, and in
    the weight where it is trained.
    """
    if isinstance(head, Tensor) and head.requires_grad:
        return _chunked(_logps_of_rows, hidden_ND, head, targets_N)
    return cast(Tensor, _FrozenHeadLogps.apply(hidden_ND, _projection(head), targets_N))  # type: ignore[no-untyped-call]


def any_of_logps(hidden_BD: Tensor, head: Projection | Tensor, sets_BS: Tensor) -> Tensor:
    """Return the log-probability, at each position, that the token is one of a set, in fp32. Shape [B].

    `sets_BS` lists each position's set; a token that is listed twice counts once.
    """
    logits_BV = (head(hidden_BD) if isinstance(head, Projection) else F.linear(hidden_BD, head)).float()
    listed_BS, _ = sets_BS.sort(dim=-1)
    again_BS = F.pad(listed_BS[:, 1:] == listed_BS[:, :-1], (1, 0))
    chosen_BS = logits_BV.gather(1, listed_BS).masked_fill(again_BS, -torch.inf)
    return chosen_BS.logsumexp(-1) - logits_BV.logsumexp(-1)


def forward_kl(
    hidden_ND: Tensor,
    head: Projection | Tensor,
    reference_ND: Tensor,
    reference_head: Projection | Tensor,
    without_NS: Tensor | None = None,
) -> Tensor:
    """Return KL(reference || model) over the full vocabulary at each position, in fp32 nats. Shape [N].

    `reference_ND` are the reference model's last hidden states at the same positions; they carry no gradient. `without_NS` lists
    at each position tokens that are taken out of the reference's distribution, whose rest is scaled up to 1; -1 is none.
    """
    reference = _projection(reference_head)
    if without_NS is None:
        without_NS = torch.full((len(hidden_ND), 1), -1, device=hidden_ND.device)
    if isinstance(head, Tensor) and head.requires_grad:

        def rows(h: Tensor, w: Tensor, r: Tensor, x: Tensor) -> Tensor:
            return _kl_of_rows(h, w, _without(reference.forward(r), x))

        return _chunked(rows, hidden_ND, head, reference_ND, without_NS)
    return cast(Tensor, _FrozenHeadKL.apply(hidden_ND, _projection(head), reference_ND, reference, without_NS))  # type: ignore[no-untyped-call]


def _without(logits_NV: Tensor, without_NS: Tensor) -> Tensor:
    """Take tokens out of some positions' distributions: exp of their logit is then 0 in any number format, and 0 log 0 is 0."""
    rows, places = (without_NS >= 0).nonzero(as_tuple=True)
    logits_NV[rows, without_NS[rows, places]] = _NEVER
    return logits_NV


def _projection(head: Projection | Tensor) -> Projection:
    return head if isinstance(head, Projection) else Projection(head)


def _logps_of_rows(hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> Tensor:
    logps_NV = F.log_softmax(F.linear(hidden_ND, weight_VD).float(), dim=-1)
    return logps_NV.gather(1, targets_N[:, None]).squeeze(1)


def _kl_of_rows(hidden_ND: Tensor, weight_VD: Tensor, reference_logits_NV: Tensor) -> Tensor:
    model_NV = F.log_softmax(F.linear(hidden_ND, weight_VD).float(), dim=-1)
    reference_NV = F.log_softmax(reference_logits_NV.float(), dim=-1)
    return (reference_NV.exp() * (reference_NV - model_NV)).sum(-1)


def _chunked(function: Any, hidden_ND: Tensor, weight_VD: Tensor, *others_N: Tensor) -> Tensor:
    parts = [
        checkpoint(function, h, weight_VD, *others, use_reentrant=False)
        for h, *others in zip(*(x.split(CHUNK_ROWS) for x in (hidden_ND, *others_N)), strict=True)
    ]
    return torch.cat(parts) if parts else hidden_ND.new_zeros(0, dtype=torch.float32)


class _FrozenHeadLogps(torch.autograd.Function):
    """d log p(y) / d h = W[y] - softmax(W h) W."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head: Projection, targets_N: Tensor) -> Tensor:
        logps_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden_ND.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            targets = targets_N[rows]
            logits = head.forward(hidden_ND[rows])
            probs, norm = softmax_and_norm(logits)
            logps_N[rows] = logits.gather(1, targets[:, None]).squeeze(1).float() - norm
            if slope_ND is not None:
                slope_ND[rows] = head.weight[targets] - head.transpose(probs)
        ctx.save_for_backward(slope_ND)
        return logps_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (slope_ND,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_ND).to(slope_ND.dtype), None, None


class _FrozenHeadKL(torch.autograd.Function):
    """d KL(p || q) / d h = (q - p) W, with q the model's distribution and p the reference's."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head: Projection,
        reference_ND: Tensor,
        reference: Projection,
        without_NS: Tensor,
    ) -> Tensor:
        kl_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden_ND.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            target = _without(reference.forward(reference_ND[rows]), without_NS[rows])
            kl_N[rows], slope = divergence(head.forward(hidden_ND[rows]), target)
            if slope_ND is not None:
                slope_ND[rows] = head.transpose(slope)
        ctx.save_for_backward(slope_ND)
        return kl_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        (slope_ND,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_ND).to(slope_ND.dtype), None, None, None, None
