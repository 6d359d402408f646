"""Whether both sides do the same mathematics: each row's loss, and the gradient of an optimiser step.

A speed is worth nothing where the work differs, so a benchmark ends here, without a number, where they are apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from hh_pairs import SEED
from machine import say
from torch import Tensor, nn

from accord.objectives.reduction import reduce
from accord.train.offline import Task, TrainSettings

MOST_LOSS_DIFFERENCE, MOST_GRADIENT_DIFFERENCE = 1e-3, 1e-3
Gradient = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest absolute differences of a row's loss, with the range of losses; the gradient's, relative to its largest element."""

    loss_initial: float
    loss_perturbed: float
    least_perturbed_loss: float
    greatest_perturbed_loss: float
    gradient: float

    def require(self) -> Mapping[str, float]:
        """Say how far apart the sides are, and return it as a record.

        Raises:
            SystemExit: they are too far apart to be the same work.
        """
        say(
            f"largest differences in fp32: loss at the initial weights {self.loss_initial:.1e}, with the same changed weights "
            f"{self.loss_perturbed:.1e} (losses {self.least_perturbed_loss:.3f} to {self.greatest_perturbed_loss:.3f}); "
            f"a step's gradient {self.gradient:.1e} of its largest element"
        )
        loss = max(self.loss_initial, self.loss_perturbed)
        # Written so that a NaN is refused too.
        if not (loss <= MOST_LOSS_DIFFERENCE and self.gradient <= MOST_GRADIENT_DIFFERENCE):
            raise SystemExit(f"the two sides do not do the same work: {self}")
        return asdict(self)


def agreement(
    initial: tuple[Tensor, Tensor], perturbed: tuple[Tensor, Tensor], gradients: tuple[Gradient, Gradient]
) -> Agreement:
    """Compare what was found on our side, first, with the peer's."""
    return Agreement(
        loss_initial=_apart(*initial),
        loss_perturbed=_apart(*perturbed),
        least_perturbed_loss=perturbed[0].min().item(),
        greatest_perturbed_loss=perturbed[0].max().item(),
        gradient=gradients_apart(*gradients),
    )


def perturb(model: nn.Module) -> None:
    """Change the weights alike on either side, by name, from one generator: the adapters', or all where there are none."""
    generator = torch.Generator().manual_seed(SEED + 1)
    with torch.no_grad():
        named = sorted(model.named_parameters())
        if adapters := [(name, p) for name, p in named if "lora_" in name]:
            for name, parameter in adapters:
                scale = 0.02 if "lora_B" in name else parameter.shape[1] ** -0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            return
        for _, parameter in named:
            spread = parameter.float().pow(2).mean().sqrt()
            parameter.add_(0.02 * spread * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def our_losses(model: nn.Module, task: Task) -> Tensor:
    """Return our loss of each row, in order: a sum over tokens where the objective's unit is a token."""
    losses = torch.zeros(len(task.trees))
    for rows in task.batches(model, range(len(task.trees)), TrainSettings().token_budget):
        (term,) = task.terms(model, rows, task.before_step(model, rows))
        losses[rows] = term.losses.loss_B.float().cpu()
    return losses


def our_gradient(model: nn.Module, task: Task, rows: Sequence[int]) -> Gradient:
    """Return the gradient of one step of these rows, as the loop takes it."""
    totals, shared = task.totals(rows), task.before_step(model, rows)
    for micro in task.batches(model, rows, TrainSettings().token_budget):
        (term,) = task.terms(model, micro, shared)
        reduce(term.losses, totals[term.group]).backward()  # type: ignore[no-untyped-call]
    return taken(model)


@torch.no_grad()
def peer_losses(trainer: Any, rows: Sequence[Mapping[str, Any]], device: torch.device) -> Tensor:
    """Return the peer's loss of each row, in order: a batch of one row each."""
    trainer.model.eval()
    return torch.tensor([_peer_loss(trainer, row, device).item() for row in rows])


def peer_gradient(
    trainer: Any, rows: Sequence[Mapping[str, Any]], weights: Sequence[float], device: torch.device
) -> Gradient:
    """Return the peer's gradient of the weighted sum of the rows' losses."""
    trainer.model.eval()
    for row, weight in zip(rows, weights, strict=True):
        (weight * _peer_loss(trainer, row, device)).backward()
    return taken(trainer.model)


def batch_of(trainer: Any, rows: Sequence[Mapping[str, Any]], device: torch.device) -> dict[str, Any]:
    """Return rows as the peer collates them."""
    batch = trainer.data_collator([dict(row) for row in rows])
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}


def _peer_loss(trainer: Any, row: Mapping[str, Any], device: torch.device) -> Tensor:
    loss: Tensor = trainer.compute_loss(trainer.model, batch_of(trainer, [row], device))
    return loss


def taken(model: nn.Module) -> Gradient:
    """Return the gradients by name, and clear them."""
    found = {name: p.grad.detach().float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def _apart(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def gradients_apart(ours: Gradient, peer: Gradient) -> float:
    """Return by how much the gradients differ at most, relative to the largest element."""
    if ours.keys() != peer.keys():
        raise SystemExit(f"the two sides train other weights: {sorted(ours.keys() ^ peer.keys())[:5]}")
    largest = max(g.abs().max().item() for g in peer.values())
    return max(_apart(g, peer[name]) for name, g in ours.items()) / largest
