"""What is taken from the language-model head: log-probabilities and divergences at chosen positions, in chunks.

Logits over a whole vocabulary are the largest tensor of a training step, and needed only where a loss is taken. For a frozen
head the gradient with respect to the hidden state is known in the forward pass (one more matrix product a chunk, which the
backward pass would need anyway), so only [N, D] is kept instead of [N, V].

Shapes: N positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from accord.models.kernels import divergence, norm_entropy, softmax_norm_entropy, softmax_times
from accord.models.projection import Projection
from accord.models.tree import head_weight
from accord.objectives.kl import kl_full

CHUNK_ROWS = 256
# Rows a chunk where the head is trained: its gradient, as large as itself, is added to once a chunk.
TRAINED_CHUNK_ROWS = 1024
_NEVER = -1e4


@dataclass(frozen=True, slots=True)
class LiveHead:
    """The head of a model whose weights are spread over processes: its weight is another tensor in each forward pass."""

    model: nn.Module

    @property
    def weight(self) -> Tensor:
        """The weight [V, D], between a forward pass and the end of its backward pass."""
        return head_weight(self.model)


# The weight [V, D], trained or not; a frozen head's packed weight; or where the weight is to be found.
Head = Projection | Tensor | LiveHead


class Told(NamedTuple):
    """What a model says at some positions, in fp32: log p(target), and its distribution's entropy in nats, without gradient."""

    logps_N: Tensor
    entropy_N: Tensor


def token_logps(hidden_ND: Tensor, head: Head, targets_N: Tensor) -> Told:
    """Return log p(target) and the entropy at each position.

    Differentiable in `hidden_ND`, and in the head's weight where it is trained.
    """
    given = _now(head)
    if isinstance(given, Tensor) and given.requires_grad:
        return Told(*_TrainedHeadLogps.apply(hidden_ND, given, targets_N))  # type: ignore[no-untyped-call]
    return Told(*_FrozenHeadLogps.apply(hidden_ND, _projection(given), targets_N))  # type: ignore[no-untyped-call]


def any_of_logps(hidden_BD: Tensor, head: Head, sets_BS: Tensor) -> Tensor:
    """Return the log-probability, at each position, that the token is one of a set, in fp32. Shape [B].

    `sets_BS` lists each position's set; a token that is listed twice counts once.
    """
    given = _now(head)
    logits_BV = (given(hidden_BD) if isinstance(given, Projection) else F.linear(hidden_BD, given)).float()
    listed_BS, _ = sets_BS.sort(dim=-1)
    again_BS = F.pad(listed_BS[:, 1:] == listed_BS[:, :-1], (1, 0))
    chosen_BS = logits_BV.gather(1, listed_BS).masked_fill(again_BS, -torch.inf)
    return chosen_BS.logsumexp(-1) - logits_BV.logsumexp(-1)


def forward_kl(
    hidden_ND: Tensor,
    head: Head,
    reference_ND: Tensor,
    reference_head: Head,
    without_NS: Tensor | None = None,
) -> Tensor:
    """Return KL(reference || model) over the full vocabulary at each position, in fp32 nats. Shape [N].

    `reference_ND` are the reference model's last hidden states at the same positions; they carry no gradient. `without_NS` lists
    at each position tokens that are taken out of the reference's distribution, whose rest is scaled up to 1; -1 is none.
    """
    given, reference = _now(head), _projection(_now(reference_head))
    if without_NS is None:
        without_NS = torch.full((len(hidden_ND), 1), -1, device=hidden_ND.device)
    if isinstance(given, Tensor) and given.requires_grad:

        def rows(h: Tensor, w: Tensor, r: Tensor, x: Tensor) -> Tensor:
            return _kl_of_rows(h, w, _without(reference.forward(r), x))

        return _chunked(rows, hidden_ND, given, reference_ND, without_NS)
    return cast(Tensor, _FrozenHeadKL.apply(hidden_ND, _projection(given), reference_ND, reference, without_NS))  # type: ignore[no-untyped-call]


def reverse_kl(hidden_ND: Tensor, head: Head, reference_ND: Tensor, reference_head: Head) -> Tensor:
    """Return KL(model || reference) over the full vocabulary at each position, in fp32 nats. Shape [N].

    As `forward_kl`, the other way round: what leaves the reference is charged by how much the model says it.
    """
    given, reference = _now(head), _projection(_now(reference_head))
    if isinstance(given, Tensor) and given.requires_grad:

        def rows(h: Tensor, w: Tensor, r: Tensor) -> Tensor:
            return kl_full(F.linear(h, w).float(), reference.forward(r).float())

        return _chunked(rows, hidden_ND, given, reference_ND)
    return cast(Tensor, _FrozenHeadReverseKL.apply(hidden_ND, _projection(given), reference_ND, reference))  # type: ignore[no-untyped-call]


def _without(logits_NV: Tensor, without_NS: Tensor) -> Tensor:
    """Take tokens out of some positions' distributions: exp of their logit is then 0 in any number format, and 0 log 0 is 0."""
    rows, places = (without_NS >= 0).nonzero(as_tuple=True)
    logits_NV[rows, without_NS[rows, places]] = _NEVER
    return logits_NV


def _projection(head: Projection | Tensor) -> Projection:
    return head if isinstance(head, Projection) else Projection(head)


def _now(head: Head) -> Projection | Tensor:
    return head.weight if isinstance(head, LiveHead) else head


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
    def forward(ctx: Any, hidden_ND: Tensor, head: Projection, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        logps_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
        entropy_N = torch.empty_like(logps_N)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden_ND.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            targets = targets_N[rows]
            logits = head.forward(hidden_ND[rows])
            probs, norm, entropy_N[rows] = softmax_norm_entropy(logits)
            logps_N[rows] = logits.gather(1, targets[:, None]).squeeze(1).float() - norm
            if slope_ND is not None:
                slope_ND[rows] = head.weight[targets] - head.transpose(probs)
        ctx.save_for_backward(slope_ND)
        ctx.mark_non_differentiable(entropy_N)
        return logps_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None]:
        (slope_ND,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_ND).to(slope_ND.dtype), None, None


class _TrainedHeadLogps(torch.autograd.Function):
    """As `_FrozenHeadLogps`, and dW = (onehot(y) - p)^T (g h): the logits are computed again for it, nothing [N, V] is kept."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        logps_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
        norm_N, entropy_N = torch.empty_like(logps_N), torch.empty_like(logps_N)
        for rows in _row_chunks(hidden_ND):
            logits = F.linear(hidden_ND[rows], weight_VD)
            norm_N[rows], entropy_N[rows] = norm_entropy(logits)
            logps_N[rows] = logits.gather(1, targets_N[rows, None]).squeeze(1).float() - norm_N[rows]
        ctx.save_for_backward(hidden_ND, weight_VD, targets_N, norm_N)
        ctx.mark_non_differentiable(entropy_N)
        return logps_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        hidden_ND, weight_VD, targets_N, norm_N = ctx.saved_tensors
        dh_ND = torch.empty_like(hidden_ND)
        dw_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        for rows in _row_chunks(hidden_ND):
            grad_N = grads[0][rows]
            slope = softmax_times(F.linear(hidden_ND[rows], weight_VD), norm_N[rows, None], -grad_N[:, None])
            slope[torch.arange(len(grad_N), device=slope.device), targets_N[rows]] += grad_N.to(slope.dtype)
            dh_ND[rows] = slope @ weight_VD
            dw_VD += slope.t() @ hidden_ND[rows]
        return dh_ND, dw_VD.to(weight_VD.dtype), None


def _row_chunks(hidden_ND: Tensor) -> list[slice]:
    n = hidden_ND.shape[0]
    return [slice(start, start + TRAINED_CHUNK_ROWS) for start in range(0, n, TRAINED_CHUNK_ROWS)]


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


class _FrozenHeadReverseKL(torch.autograd.Function):
    """d KL(q || p) / d h = (q (log q - log p - KL)) W, with q the model's distribution and p the reference's."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head: Projection, reference_ND: Tensor, reference: Projection) -> Tensor:
        kl_N = torch.empty(hidden_ND.shape[0], dtype=torch.float32, device=hidden_ND.device)
        slope_ND = torch.empty_like(hidden_ND) if ctx.needs_input_grad[0] else None
        for start in range(0, hidden_ND.shape[0], CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            own = F.log_softmax(head.forward(hidden_ND[rows]).float(), -1)
            lead = own - F.log_softmax(reference.forward(reference_ND[rows]).float(), -1)
            said = own.exp_()
            kl_N[rows] = (said * lead).sum(-1)
            if slope_ND is not None:
                slope_ND[rows] = head.transpose((said * (lead - kl_N[rows, None])).to(hidden_ND.dtype))
        ctx.save_for_backward(slope_ND)
        return kl_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None, None, None]:
        (slope_ND,) = ctx.saved_tensors
        return (grads[0][:, None] * slope_ND).to(slope_ND.dtype), None, None, None
