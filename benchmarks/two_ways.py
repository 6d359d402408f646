"""Two ways of ours to do the same work, held against each other: first losses and gradients, then the time, in turn."""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from epoch import train_epoch
from machine import finish, paired_ratio, processor, say
from torch import nn

from accord.models.precision import Precision
from accord.models.tree import Tree
from accord.objectives.reduction import reduce
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings

# Of loss and gradient in fp32, relative to the gradient's largest element.
MOST_DIFFERENCE = 1e-4


@dataclass(frozen=True, slots=True)
class Way:
    """One way: its rows, how many of them an optimiser step takes, and its task on a model and rows of its own."""

    name: str
    trees: Sequence[Tree]
    rows_per_step: int
    task: Callable[[nn.Module, Sequence[Tree]], Mixture]


def options_of(doc: str | None, **defaults: int) -> argparse.Namespace:
    """Return what was asked for: `--quick`, `--repetitions`, and a number for each default."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="2 short prompts, once: shows that it runs, measures nothing"
    )
    for name, value in {**defaults, "repetitions": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # transformers' of itself
    if options.quick:
        options.prompts, options.repetitions = 2, 1
    return options


def largest_difference(ways: tuple[Way, Way], fresh: Callable[[Precision], nn.Module]) -> float:
    """Return by how much loss and gradient of a whole step differ at most, relative to the gradient's largest, in fp32."""
    found = []
    for way in ways:
        model = fresh("fp32")
        task = way.task(model, way.trees)
        rows = range(len(way.trees))
        totals = task.totals(rows)
        loss = 0.0
        for micro in task.batches(model, rows, 2048):
            (term,) = task.terms(model, micro, task.before_step(model, micro))
            part = reduce(term.losses, totals[term.group])
            part.backward()
            loss += part.item()
        found.append((loss, [p.grad for p in model.parameters() if p.grad is not None]))
    (loss_a, grads_a), (loss_b, grads_b) = found
    largest = max(float(g.abs().max()) for g in grads_a)
    apart = max(float((a - b).abs().max()) for a, b in zip(grads_a, grads_b, strict=True))
    return max(abs(loss_a - loss_b), apart / largest)


def compare(
    ways: tuple[Way, Way],
    few: tuple[Way, Way],
    fresh: Callable[[Precision], nn.Module],
    n_prompts: int,
    options: argparse.Namespace,
    device: torch.device,
    least_ratio: float | None,
    more: Mapping[str, Any],
) -> None:
    """Check on `few` rows that both ways do the same work, time them in turn, print the result: the first way's rate first."""
    difference = largest_difference(few, fresh)
    say(f"largest difference of loss and gradient in fp32: {difference:.1e}")
    if not difference <= MOST_DIFFERENCE:
        raise SystemExit("the two ways do not do the same work")

    def seconds(way: Way) -> float:
        model = fresh("auto")
        dials = TrainSettings(learning_rate=1e-5, rows_per_step=way.rows_per_step)
        return train_epoch(model, lambda: way.task(model, way.trees), dials, device)

    seconds(few[0])  # the first batch of a process compiles
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    for repetition in range(options.repetitions):
        for way in ways[:: 1 if repetition % 2 == 0 else -1]:
            rates[way.name].append(n_prompts / seconds(way))
        said = ", ".join(f"{own[-1]:.3f} prompts/s {name}" for name, own in rates.items())
        say(f"{repetition + 1}/{options.repetitions}: {said}")
    first, second = rates.values()
    ratio, low, high = paired_ratio(first, second)
    say(f"{ways[0].name} is {ratio:.2f} x as fast as {ways[1].name} [{low:.2f} to {high:.2f}]")
    finish(
        {
            "ours": statistics.median(first),
            "peer": statistics.median(second),
            "unit": "prompts/s",
            "ratio": ratio,
            "ratio_range": [low, high],
            "processor": processor(device),
            "quick": options.quick,
            "largest_difference": difference,
            "met": least_ratio is None or ratio >= least_ratio,
            **more,
        }
    )
