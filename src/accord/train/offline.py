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
from torch import nn

from accord.errors import AccordError
from accord.models.packed import packed
from accord.models.peak import matrix_peak
from accord.models.sharded import is_sharded, multiplied_in, value_of
from accord.models.tree import Tree
from accord.objectives.reduction import Losses, Totals, reduce
from accord.runs.atomic import write_json
from accord.train.batches import steps_of_epoch
from accord.train.checkpoint import Position, load, read_logs, save
from accord.train.masters import Masters, masters_of
from accord.train.parallel import add_gradients, gather, is_main, n_processes, same_everywhere, share_of, together, wait
from accord.train.watch import Pace, StepLog, Work, note_of, warnings_of
from accord.types import Progress

CHECKPOINT_EVERY_S = 30.0
# A checkpoint that takes long is written less often: between two lies this many times what the last one took.
LEAST_BETWEEN = 20.0
# Steps in a row whose loss or gradient is not finite; then the run ends.
MOST_SKIPPED = 10


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

    def prepare(self, model: nn.Module) -> Any:
        """Find out, once a run and in all processes together, what batches depend on; return what `work` wants to know."""

    def totals(self, rows: Sequence[int]) -> Mapping[str, Totals]:
        """Return, by group, how many supervised tokens and examples these rows hold."""

    def batches(self, model: nn.Module, rows: Sequence[int], token_budget: int) -> list[list[int]]:
        """Split rows into micro-batches of at most so many computed positions."""

    def work(self, model: nn.Module, micros: Sequence[Sequence[int]], prepared: Any) -> Work:
        """Return what micro-batches come to; `prepared` is what `prepare` returned."""

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

    Where a step does not fit into memory, the token budget is halved for the rest of the run. Where weights are spread over
    processes it ends the run: one process cannot go back alone.

    Raises:
        AccordError: nothing is trainable, there are no rows, 10 steps in a row or all of a shorter run were not finite, or one row
            alone does not fit into memory.
    """
    if not task.trees:
        raise AccordError(f"{stage}: there is nothing to train on")
    plan = [
        rows
        for epoch in range(settings.epochs)
        for rows in steps_of_epoch(
            units or [[i] for i in range(len(task.trees))], settings.rows_per_step, settings.seed, epoch
        )
    ]
    with packed(model), masters_of(model) as masters:
        parameters = masters.parameters
        if not parameters:
            raise AccordError(f"{stage}: the model has no trainable weights")
        optimizer = optimizer_of(model, parameters, settings)
        loop = Stepper(model, task, settings, masters, optimizer, progress, stage)
        at = load(folder, settings.token_budget, parameters, optimizer)
        if not is_sharded(model):
            same_everywhere([p.data for p in parameters])
        masters.publish()
        peak = n_processes() * matrix_peak(multiplied_in(model), masters.weights[0].device)
        progress.start(stage, len(plan), "steps", at.step)
        began = saved = clock()
        every_s = CHECKPOINT_EVERY_S
        before, work, warned = at.seconds, Work(), set(warnings_of(at.logs))
        model.train()
        prepared = task.prepare(model)
        while at.step < len(plan):
            rows = plan[at.step]
            work += loop.step(at, rows, schedule(at.step, len(plan), settings.warmup), prepared)
            # A run of fewer steps, all of them skipped, has learned nothing either.
            if at.skipped_in_a_row == min(MOST_SKIPPED, len(plan)):
                raise _not_finite(stage, task, rows, folder, at.skipped_in_a_row)
            pace = Pace(work, clock() - began, peak)
            at.seconds = before + pace.seconds
            loop.tell(at.logs, pace, warned)
            if together(clock() - saved >= every_s, model):
                started = time.monotonic()
                save(folder, at, parameters, optimizer)
                every_s = max(CHECKPOINT_EVERY_S, LEAST_BETWEEN * (time.monotonic() - started))
                saved = clock()
        model.eval()
        progress.finish(Pace(work, clock() - began, peak).note())
        at.seconds = before + clock() - began
        save(folder, at, parameters, optimizer)
        wait()
    return TrainResult(tuple(at.logs), at.skipped, at.seconds)


def optimizer_of(
    model: nn.Module, parameters: Sequence[nn.Parameter], settings: TrainSettings
) -> torch.optim.Optimizer:
    """Return AdamW over these parameters."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=not is_sharded(model),  # one pass over weights and moments instead of ten
    )


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

    def means(self) -> dict[str, float]:
        """Return each metric's mean; of one that no example of the step has, nothing."""
        return {name: self.metrics[name] / self.counts[name] for name in self.metrics if self.counts[name]}


@dataclass(frozen=True, slots=True)
class Stepper:
    """What every optimiser step of a run needs.

    Its backward pass is PyTorch's: losses are divided by a step's totals already, and Accelerate's would divide them again, by the
    accumulation steps of the configuration that a run is launched with.
    """

    model: nn.Module
    task: Task
    settings: TrainSettings
    masters: Masters
    optimizer: torch.optim.Optimizer
    progress: Progress
    stage: str

    def step(self, at: Position, rows: Sequence[int], rate: float, prepared: Any) -> Work:
        """Take one optimiser step, note it in `at`, and return what it came to."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * rate
        sums, fitting, micros = self._gradients(rows, at.token_budget)
        if fitting < at.token_budget:
            self.progress.say(
                f"{self.stage}: memory ran out; batches of {fitting} tokens from here on, not {at.token_budget}"
            )
            at.token_budget = fitting
        norm = float(value_of(nn.utils.clip_grad_norm_(self.masters.parameters, self.settings.max_grad_norm)))
        finite = math.isfinite(sums.loss) and math.isfinite(norm)
        if finite:
            self.optimizer.step()
            self.masters.publish()
        else:
            self.optimizer.zero_grad()
        at.skipped_in_a_row = 0 if finite else at.skipped_in_a_row + 1
        at.skipped += not finite
        at.logs.append(StepLog(at.step, sums.loss, {**sums.means(), "gradient_norm": norm}))
        at.step += 1
        return sum(gather(self.task.work(self.model, micros, prepared)), start=Work())

    def tell(self, logs: Sequence[StepLog], pace: Pace, warned: set[str]) -> None:
        """Show the last step, and say what has not been said yet."""
        log = logs[-1]
        measured = {"loss": log.loss, **log.metrics, "learning_rate": self.optimizer.param_groups[0]["lr"]}
        self.progress.measure(self.stage, log.step, measured | pace.measured())
        self.progress.advance(1, note_of(log))
        for code, sentence in warnings_of(logs).items():
            if code not in warned:
                warned.add(code)
                self.progress.say(f"{self.stage}, step {log.step + 1}: {sentence}")

    def _gradients(self, rows: Sequence[int], token_budget: int) -> tuple[_Sums, int, list[list[int]]]:
        """Leave a step's gradient in the weights; return what was added up, the budget that fitted into memory, and the batches.

        The totals are the whole step's, so that its loss and gradient are the same at any budget.
        """
        task, model = self.task, self.model
        totals = task.totals(rows)
        shared = task.before_step(model, rows)
        own = share_of(task.trees, rows)
        while True:
            self.optimizer.zero_grad()
            sums, memory_ran_out = _Sums(), False
            micros = task.batches(model, own, token_budget)
            # Asked before the first batch: between two, one process would ask while another brings weights together.
            n_most = max(gather(len(micros)))
            try:
                for micro in micros:
                    _add(sums, task.terms(model, micro, shared), totals)
                if is_sharded(model):
                    self._keep_pace(n_most - len(micros), micros[-1] if micros else rows[:1], shared)
            except RuntimeError as error:
                # The CPU's allocator raises a plain RuntimeError.
                ran_out = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
                if not ran_out:
                    raise
                if is_sharded(model):
                    raise self._too_large(rows, "in one of the processes, on rows") from error
                memory_ran_out = True
            smallest = memory_ran_out and max(map(len, micros)) == 1
            ran_out, at_smallest = (any(x) for x in zip(*gather((memory_ran_out, smallest)), strict=True))
            if not ran_out:
                if not is_sharded(model):
                    add_gradients(self.masters.parameters)
                return _added_up(gather(sums)), token_budget, micros
            if at_smallest:
                raise self._too_large(rows, "on one row alone")
            # Outside the handler, whose traceback holds the failed batch's tensors.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            token_budget //= 2

    def _keep_pace(self, n_fewer: int, micro: Sequence[int], shared: Any) -> None:
        """Run as many batches as the process that has the most: weights are brought together by all processes or not at all."""
        for _ in range(n_fewer):
            terms = self.task.terms(self.model, micro, shared)
            (0.0 * torch.stack([term.losses.loss_B.sum() for term in terms]).sum()).backward()

    def _too_large(self, rows: Sequence[int], where: str) -> AccordError:
        longest = max(self.task.trees[i].length for i in rows)
        return AccordError(
            f"{self.stage}: memory ran out {where}, of up to {longest} tokens; leave out such rows, give --checkpointing, train "
            "fewer layers, or use a machine with more memory"
        )


def _add(sums: _Sums, terms: Sequence[Term], totals: Mapping[str, Totals]) -> None:
    loss = torch.stack([term.coefficient * reduce(term.losses, totals[term.group]) for term in terms]).sum()
    loss.backward()
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


def _not_finite(stage: str, task: Task, rows: Sequence[int], folder: Path, n_skipped: int) -> AccordError:
    """Keep the last step's rows for who looks for the cause, as token ids; return what ends the run."""
    path = folder / "not-finite.json"
    kept = [{"row": i, "prompt": task.trees[i].prompt, "answers": task.trees[i].answers} for i in rows]
    if is_main():
        write_json(path, kept)
    steps = "the only step" if n_skipped == 1 else f"{n_skipped} steps in a row"
    return AccordError(
        f"{stage}: {steps} had a loss or gradient that was not finite; lower the rate, or look at the last one's {len(kept)} rows: "
        f"{path} holds their numbers and token ids"
    )


def schedule(step: int, n_steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine down to 5 %."""
    n_warm = max(1, round(warmup * n_steps))
    if step < n_warm:
        return (step + 1) / n_warm
    return max(0.05, 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm))))


def read_result(folder: Path) -> TrainResult:
    """Return what a finished `fit` in `folder` returned, without training or loading a model."""
    return TrainResult(*read_logs(folder))
