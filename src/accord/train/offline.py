"""The offline training loop, the same for every objective.

A task says which rows there are and what a batch's losses are; the loop orders the rows, counts a step's totals before it
begins, runs micro-batches within a token budget, steps, and writes a checkpoint by time. Losses, totals and order depend on the
seed and the data alone, so a resumed run gives the bits of one that never stopped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from accord.errors import AccordError
from accord.models.packed import packed
from accord.models.tree import Tree
from accord.objectives.reduction import Losses, Totals, reduce
from accord.runs.tensors import load_tensors, save_tensors
from accord.train.batches import steps_of_epoch
from accord.train.parallel import add_gradients, gather, is_main, same_everywhere, share_of, wait
from accord.train.watch import StepLog, note_of, warnings_of
from accord.types import Progress

CHECKPOINT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The dials of the loop. `token_budget` sets memory and speed only; it changes no result beyond rounding."""

    epochs: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    rows_per_step: int = 64
    token_budget: int = 2048
    max_grad_norm: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Term:
    """One loss of a batch: its group names the totals that it is divided by."""

    group: str
    losses: Losses
    coefficient: float = 1.0


class Task(Protocol):
    """What is trained: rows, a step's totals, a batch's losses."""

    @property
    def trees(self) -> Sequence[Tree]:
        """The rows."""

    def totals(self, rows: Sequence[int]) -> Mapping[str, Totals]:
        """Return, by group, how many supervised tokens and examples these rows hold."""

    def batches(self, model: nn.Module, rows: Sequence[int], token_budget: int) -> list[list[int]]:
        """Split rows into micro-batches of at most so many computed positions."""

    def before_step(self, model: nn.Module, rows: Sequence[int]) -> Any:
        """Return what the losses of a step's rows have in common, computed before any of them."""

    def terms(self, model: nn.Module, rows: Sequence[int], shared: Any) -> list[Term]:
        """Return the losses of one micro-batch; `shared` is what `before_step` returned."""


@dataclass(frozen=True, slots=True)
class TrainResult:
    """Every step's log, and how many steps were skipped because the loss or the gradient was not finite."""

    steps: tuple[StepLog, ...]
    skipped: int
    seconds: float


def fit(
    model: nn.Module,
    task: Task,
    settings: TrainSettings,
    folder: Path,
    progress: Progress,
    stage: str,
    clock: Callable[[], float] = time.monotonic,
    units: Sequence[Sequence[int]] = (),
) -> TrainResult:
    """Train the model's trainable weights in place.

    `folder` holds the checkpoint; where one is there, training goes on from it. `units` are rows that a step takes up together;
    if none are given, each row stands alone.

    Where a step does not fit into memory, the token budget is halved for the rest of the run.

    Raises:
        AccordError: nothing is trainable, there are no rows, 10 steps in a row were not finite, or one row alone does not fit into
            memory.
    """
    if not task.trees:
        raise AccordError(f"{stage}: there is nothing to train on")
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise AccordError(f"{stage}: the model has no trainable weights")
    optimizer = accelerator.prepare_optimizer(
        torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    )
    plan = [
        rows
        for epoch in range(settings.epochs)
        for rows in steps_of_epoch(
            units or [[i] for i in range(len(task.trees))], settings.rows_per_step, settings.seed, epoch
        )
    ]
    state = _State(folder / "checkpoint.safetensors", parameters, optimizer)
    first, logs, skipped, skipped_in_a_row, spent, token_budget = state.load(settings.token_budget)
    same_everywhere([p.data for p in parameters])
    progress.start(stage, len(plan), "steps")
    progress.advance(first)
    began = saved = clock()
    tokens, warned = 0, set(warnings_of(logs))
    model.train()
    with packed(model):
        for step in range(first, len(plan)):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * schedule(step, len(plan), settings.warmup)
            sums, fitting = _gradients(model, task, plan[step], token_budget, accelerator, optimizer, parameters, stage)
            if fitting < token_budget:
                progress.say(f"{stage}: memory ran out; batches of {fitting} tokens from here on, not {token_budget}")
                token_budget = fitting
            log, ok = _step(sums, step, settings, accelerator, optimizer, parameters)
            skipped_in_a_row = 0 if ok else skipped_in_a_row + 1
            skipped += not ok
            if skipped_in_a_row == 10:
                raise AccordError(
                    f"{stage}: 10 steps in a row had a loss or gradient that was not finite; rows {plan[step]}"
                )
            logs.append(log)
            tokens += sum(task.trees[i].length for i in plan[step])
            measured = {"loss": log.loss, **log.metrics, "learning_rate": optimizer.param_groups[0]["lr"]}
            progress.measure(stage, step, {**measured, "tokens_per_s": tokens / max(clock() - began, 1e-9)})
            progress.advance(1, note_of(log))
            for code, sentence in warnings_of(logs).items():
                if code not in warned:
                    warned.add(code)
                    progress.say(f"{stage}, step {step + 1}: {sentence}")
            if clock() - saved >= CHECKPOINT_EVERY_S and is_main():
                saved = clock()
                state.save(step + 1, logs, skipped, skipped_in_a_row, spent + saved - began, token_budget)
    model.eval()
    progress.finish()
    result = TrainResult(tuple(logs), skipped, spent + clock() - began)
    if is_main():
        state.save(len(plan), logs, skipped, skipped_in_a_row, result.seconds, token_budget)
    wait()
    return result


@dataclass(slots=True)
class _Sums:
    """What a step's micro-batches have added up: its loss, and of each metric the sum and the number of values."""

    loss: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: float, count: int) -> None:
        """Add to a metric."""
        self.metrics[name] = self.metrics.get(name, 0.0) + value
        self.counts[name] = self.counts.get(name, 0) + count


def _gradients(
    model: nn.Module,
    task: Task,
    rows: Sequence[int],
    token_budget: int,
    accelerator: Accelerator,
    optimizer: Any,
    parameters: Sequence[nn.Parameter],
    stage: str,
) -> tuple[_Sums, int]:
    """Leave a step's gradient in the weights; return what was added up, and the budget at which it fitted into memory.

    The totals are the whole step's, so that its loss and gradient are the same at any budget.
    """
    totals = task.totals(rows)
    shared = task.before_step(model, rows)
    own = share_of(task.trees, rows)
    while True:
        optimizer.zero_grad()
        sums, memory_ran_out = _Sums(), False
        micros = task.batches(model, own, token_budget)
        try:
            for micro in micros:
                _add(sums, task.terms(model, micro, shared), totals, accelerator)
        except RuntimeError as error:
            # The CPU's allocator raises a plain RuntimeError.
            if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            memory_ran_out = True
        smallest = memory_ran_out and max(map(len, micros)) == 1
        ran_out, at_smallest = (any(x) for x in zip(*gather((memory_ran_out, smallest)), strict=True))
        if not ran_out:
            add_gradients(parameters)
            return _added_up(gather(sums)), token_budget
        if at_smallest:
            longest = max(task.trees[i].length for i in rows)
            raise AccordError(
                f"{stage}: memory ran out on one row alone, of up to {longest} tokens; leave out such rows, train fewer layers, "
                "or use a machine with more memory"
            )
        # Outside the handler, whose traceback holds the failed batch's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        token_budget //= 2


def _add(sums: _Sums, terms: Sequence[Term], totals: Mapping[str, Totals], accelerator: Accelerator) -> None:
    loss = torch.stack([term.coefficient * reduce(term.losses, totals[term.group]) for term in terms]).sum()
    accelerator.backward(loss)
    sums.loss += loss.item()
    for term in terms:
        for name, values in term.losses.metrics.items():
            sums.add(f"{term.group}/{name}", values.sum().item(), values.numel())


def _added_up(parts: Sequence[_Sums]) -> _Sums:
    total = _Sums()
    for part in parts:
        total.loss += part.loss
        for name, value in part.metrics.items():
            total.add(name, value, part.counts[name])
    return total


def _step(
    sums: _Sums,
    step: int,
    settings: TrainSettings,
    accelerator: Accelerator,
    optimizer: Any,
    parameters: Sequence[nn.Parameter],
) -> tuple[StepLog, bool]:
    """Step along the gradient, where it is finite; return what the step reports, and whether it was taken."""
    norm = accelerator.clip_grad_norm_(parameters, settings.max_grad_norm)
    finite = math.isfinite(sums.loss) and norm is not None and bool(torch.isfinite(norm))
    if finite:
        optimizer.step()
    else:
        optimizer.zero_grad()
    metrics = {name: sums.metrics[name] / sums.counts[name] for name in sums.metrics}
    metrics["gradient_norm"] = math.nan if norm is None else float(norm)
    return StepLog(step, sums.loss, metrics), finite


def schedule(step: int, n_steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to 5 %."""
    n_warm = max(1, round(warmup * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return max(0.05, 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm))))


def read_result(folder: Path) -> TrainResult:
    """Return what a finished `fit` in `folder` returned, without training or loading a model."""
    kept = load_tensors(folder / "checkpoint.safetensors")
    return TrainResult(tuple(StepLog(*log) for log in kept["logs"]), int(kept["skipped"]), float(kept["seconds"]))


def restore_weights(model: nn.Module, folder: Path) -> None:
    """Give the model's trainable weights the values that a finished `fit` in `folder` left."""
    _copy_weights(
        [p for p in model.parameters() if p.requires_grad], load_tensors(folder / "checkpoint.safetensors")["weights"]
    )


def _copy_weights(parameters: Sequence[nn.Parameter], weights: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(weight)


class _State:
    """The checkpoint of a stage: trainable weights, optimiser, position, logs. One file, written whole or not at all."""

    def __init__(self, path: Path, parameters: Sequence[nn.Parameter], optimizer: Any) -> None:
        self.path, self.parameters, self.optimizer = path, parameters, optimizer

    def save(
        self,
        step: int,
        logs: Sequence[StepLog],
        skipped: int,
        skipped_in_a_row: int,
        seconds: float,
        token_budget: int,
    ) -> None:
        save_tensors(
            self.path,
            {
                "step": step,
                "weights": [p.detach().cpu() for p in self.parameters],
                "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state(),
                "logs": [(log.step, log.loss, dict(log.metrics)) for log in logs],
                "skipped": skipped,
                "skipped_in_a_row": skipped_in_a_row,
                "seconds": seconds,
                "token_budget": token_budget,
            },
        )

    def load(self, token_budget: int) -> tuple[int, list[StepLog], int, int, float, int]:
        if not self.path.exists():
            return 0, [], 0, 0, 0.0, token_budget
        kept = load_tensors(self.path)
        _copy_weights(self.parameters, kept["weights"])
        self.optimizer.load_state_dict(kept["optimizer"])
        torch.set_rng_state(kept["rng"])
        logs = [StepLog(step, loss, metrics) for step, loss, metrics in kept["logs"]]
        counts = (int(kept[name]) for name in ("step", "skipped", "skipped_in_a_row", "token_budget"))
        step, skipped, skipped_in_a_row, token_budget = counts
        return step, logs, skipped, skipped_in_a_row, float(kept["seconds"]), token_budget
