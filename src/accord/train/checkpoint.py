"""The checkpoint of a training stage: trainable weights, optimiser, position, logs. One file, written whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord.models.sharded import part_of, trained, whole
from accord.runs.tensors import load_tensors, save_tensors
from accord.train.parallel import is_main
from accord.train.watch import StepLog

NAME = "checkpoint.safetensors"


@dataclass(slots=True)
class Position:
    """How far a run has come: steps made, each one's log, what was skipped, seconds spent, the token budget that fits."""

    token_budget: int
    step: int = 0
    logs: list[StepLog] = field(default_factory=list)
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0
    # What a run keeps beside that: numbers, text and tensors in dicts and lists.
    more: dict[str, Any] = field(default_factory=dict)


def save(folder: Path, position: Position, parameters: Sequence[nn.Parameter], optimizer: Any) -> None:
    """Write the checkpoint; all processes call it together, and the main one writes."""
    kept = {
        "step": position.step,
        "weights": [whole(p.detach()) for p in parameters],
        "optimizer": _mapped(optimizer.state_dict(), lambda _, value: whole(value)),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state()
        if torch.cuda.is_available()
        else None,  # from which a GPU's dropout draws
        "logs": [(log.step, log.loss, dict(log.metrics)) for log in position.logs],
        "skipped": position.skipped,
        "skipped_in_a_row": position.skipped_in_a_row,
        "seconds": position.seconds,
        "token_budget": position.token_budget,
        "more": position.more,
    }
    if is_main():
        save_tensors(folder / NAME, kept)


def load(folder: Path, token_budget: int, parameters: Sequence[nn.Parameter], optimizer: Any) -> Position:
    """Take weights, optimiser and random state up where the checkpoint left them; without one, the run begins."""
    if not (folder / NAME).exists():
        return Position(token_budget)
    kept = load_tensors(folder / NAME)
    copy_weights(parameters, kept["weights"])

    def own(number: int, value: Tensor) -> Tensor:
        like = parameters[number]
        return part_of(value, like) if value.shape == like.shape else value

    optimizer.load_state_dict(_mapped(kept["optimizer"], own))
    torch.set_rng_state(kept["rng"])
    if torch.cuda.is_available() and kept.get("cuda_rng") is not None:
        torch.cuda.set_rng_state(kept["cuda_rng"])
    counts = {name: int(kept[name]) for name in ("step", "skipped", "skipped_in_a_row", "token_budget")}
    return Position(logs=_logs(kept), seconds=float(kept["seconds"]), more=kept.get("more", {}), **counts)


def read_logs(folder: Path) -> tuple[tuple[StepLog, ...], int, float]:
    """Return what a finished run's checkpoint says without its weights: logs, skipped steps, seconds."""
    kept = load_tensors(folder / NAME)
    return tuple(_logs(kept)), int(kept["skipped"]), float(kept["seconds"])


def restore_weights(model: nn.Module, folder: Path) -> None:
    """Give the model's trainable weights the values that a finished run in `folder` left."""
    copy_weights(list(trained(model).values()), load_tensors(folder / NAME)["weights"])


@torch.no_grad()
def copy_weights(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor]) -> None:
    """Copy whole weights into parameters, in their own number format."""
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.copy_(part_of(weight, parameter))


def _logs(kept: Any) -> list[StepLog]:
    return [StepLog(step, loss, metrics) for step, loss, metrics in kept["logs"]]


def _mapped(state: dict[str, Any], change: Any) -> dict[str, Any]:
    """An optimiser's state, each of its tensors changed; `change` is told the number of the parameter that it belongs to."""
    by_parameter = {
        int(number): {name: change(int(number), x) if isinstance(x, Tensor) else x for name, x in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": by_parameter}
