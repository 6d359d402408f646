"""One training run in several processes, as `accelerate launch` or torchrun start them: rows shared out, gradients added up.

Every process holds the whole model, or its part of each weight (`models.sharded`), and takes the same steps. A step's totals are
counted over all its rows, so that a process's gradient is its part of the step's, and their sum is what one process alone would
have: no mean of means.

With one process, everything here does nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch import Tensor, distributed, nn

from accord.models.sharded import is_sharded
from accord.models.tree import Tree
from accord.runs.tensors import load_tensors, save_tensors

T = TypeVar("T")


def n_processes() -> int:
    """Return how many processes train together."""
    return int(_state().num_processes)


def is_main() -> bool:
    """Whether this process is the one that writes and talks."""
    return bool(_state().is_main_process)


def kept(path: Path, compute: Callable[[], Any]) -> Any:
    """Return what a file holds; where there is none, what `compute` returns is saved there first.

    `compute` is a step of all processes together, which return the same.
    """
    if not gather(path.exists())[0]:
        value = compute()
        if is_main():
            save_tensors(path, value)
    wait()
    return load_tensors(path)


def own_batches(batches: Sequence[list[int]], model: nn.Module) -> list[list[int]]:
    """Return this process's of some batches of rows.

    Where the model's weights are spread, every process gets as many, so that some rows come twice.
    """
    n, index = n_processes(), int(_state().process_index)
    own = list(batches[index::n])
    if is_sharded(model) and len(own) < -(-len(batches) // n):
        own.append(batches[0])
    return own


def own_rows(rows: Sequence[T]) -> Sequence[T]:
    """Return this process's of some rows: each process has another part, and none has two more than another."""
    return rows[int(_state().process_index) :: n_processes()]


def from_all(values: Tensor, rows: Sequence[int]) -> Tensor:
    """Fill in the other processes' rows of a tensor, each of which has its own (`rows`)."""
    if n_processes() == 1:
        return values
    whole = values.clone()
    for theirs, rows_of_theirs in gather((values[list(rows)], list(rows))):
        whole[rows_of_theirs] = theirs
    return whole


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process do something, and the others find it done."""
    with _state().main_process_first():
        yield


def wait() -> None:
    """Wait until all processes have come so far."""
    _state().wait_for_everyone()


def share_of(trees: Sequence[Tree], rows: Sequence[int]) -> list[int]:
    """Return this process's rows of a step: the longest first, each to whoever has the fewest positions yet."""
    n, index = n_processes(), int(_state().process_index)
    if n == 1:
        return list(rows)
    shares: list[list[int]] = [[] for _ in range(n)]
    filled = [(0, i) for i in range(n)]
    for row in sorted(rows, key=lambda i: (-trees[i].length, i)):
        positions, least = filled[0]
        shares[least].append(row)
        heapq.heapreplace(filled, (positions + trees[row].length, least))
    # In the order of the step, whatever the process: a batch's layout depends on it.
    chosen = set(shares[index])
    return [row for row in rows if row in chosen]


def add_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Give every process the sum of all processes' gradients, in fp32."""
    if n_processes() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.float().flatten() for g in gradients])
    distributed.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def gather(value: T) -> list[T]:
    """Return every process's value, in the processes' order."""
    given: list[Any] = [value] * n_processes()
    if len(given) > 1:
        distributed.all_gather_object(given, value)
    return given


def together(due: bool, model: nn.Module) -> bool:
    """Return whether this process shall save now: as the main one decides where all must take part, else the main one alone."""
    return bool(gather(due)[0]) if is_sharded(model) else due and is_main()


def same_everywhere(tensors: Sequence[Tensor]) -> None:
    """Give every process the main one's values, in place."""
    if n_processes() == 1:
        return
    for tensor in tensors:
        distributed.broadcast(tensor, 0)


def _state() -> PartialState:
    return PartialState(cpu=not torch.cuda.is_available())
