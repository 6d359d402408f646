"""What never changes during a run, computed once: states that enter the first adapted layer, the reference's last states.

The work is kept in shards on disk as it is done: a kill costs one shard, and a resumed run reads the very same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from accord.models.sharded import is_sharded
from accord.models.sharing import batches, lay_out, why_apart, why_undivided
from accord.models.tree import FORWARD_TOKENS, Tree, TreeBatch, decoder_of, last_states, lower_states, upper_states
from accord.runs.tensors import load_tensors, save_tensors
from accord.train.parallel import kept, own_batches, wait
from accord.types import Progress

SHARD_TOKENS = 8192
# What the states that enter the first adapted layer may take of the disk, from where they are mapped into memory. A constant: what
# is free there may have changed when a run is gone on with, which must compute what it did.
MOST_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class FrozenStates:
    """`entering[i]` [L, D]: states entering the first adapted layer. `last[i]` [N, D]: the reference's, at the answers.

    `entering` is empty where every layer is trained; `last` holds only the rows that were asked for.
    """

    first_layer: int
    entering: Mapping[int, Tensor]
    last: Mapping[int, Tensor]

    def last_states(self, model: nn.Module, trees: Sequence[Tree], rows: Sequence[int]) -> tuple[TreeBatch, Tensor]:
        """Return a batch of some rows and the model's last hidden state at each position. Shape [B, L, D]."""
        batch = lay_out(model, [trees[i] for i in rows])
        if not self.first_layer:
            return batch, last_states(model, batch)
        device = next(model.parameters()).device
        entering_BLD = self.entering[rows[0]].new_zeros(*batch.ids_BL.shape, self.entering[rows[0]].shape[-1])
        for i, (b, columns) in zip(rows, batch.places, strict=True):
            entering_BLD[b, columns] = self.entering[i]
        return batch, upper_states(model, batch, entering_BLD.to(device), self.first_layer)

    def followed_by(self, other: FrozenStates, n: int) -> FrozenStates:
        """Return these states of n rows and another's of the rows after them; none where they enter different layers, or none."""
        if not self.first_layer or self.first_layer != other.first_layer:
            return NOTHING_FROZEN
        return FrozenStates(self.first_layer, {**self.entering, **{n + i: x for i, x in other.entering.items()}}, {})

    def reference(self, rows: Sequence[int]) -> Tensor:
        """Return the reference's last states of some rows, concatenated in their order. Shape [N, D]."""
        return torch.cat([self.last[i] for i in rows])


NOTHING_FROZEN = FrozenStates(0, {}, {})


def freeze_states(
    model: nn.Module,
    trees: Sequence[Tree],
    first_layer: int,
    want_last: Sequence[bool],
    folder: Path,
    progress: Progress,
) -> FrozenStates:
    """Compute (or read back) the frozen states of every tree under the model as it is now.

    Where those that enter the first adapted layer would take more than `MOST_BYTES`, or the model does not run in two parts, none
    are kept, and each pass runs the frozen layers again; its backward pass stops above them all the same.
    """
    if trees and (apart := why_apart(model, trees)):
        progress.say(f"each answer is computed with its own copy of the prompt: {apart}")
        first_layer = 0
    if trees and first_layer:
        undivided = why_undivided(model, trees, first_layer) or _too_much(model, trees, MOST_BYTES)
        if undivided:
            progress.say(f"the frozen layers are run again in each pass: {undivided}")
            first_layer = 0
    rows = [i for i in range(len(trees)) if first_layer or want_last[i]]
    shards = batches(model, trees, rows, SHARD_TOKENS)
    paths = [folder / f"states-{number:04d}.safetensors" for number in range(len(shards))]
    own = list(range(len(shards)))
    if not is_sharded(model):
        own = [number for (number,) in own_batches([[number] for number in own], model)]
    if own:
        progress.start("states of the frozen layers", sum(len(shards[number]) for number in own), "rows")
    for number in own:
        if is_sharded(model):
            kept(paths[number], partial(_shard, model, trees, shards[number], first_layer, want_last))
        elif not paths[number].exists():
            save_tensors(paths[number], _shard(model, trees, shards[number], first_layer, want_last))
        progress.advance(len(shards[number]))
    if own:
        progress.finish()
    wait()
    stored = [load_tensors(path) for path in paths]
    entering = {i: states for each in stored for i, states in each["entering"].items()}
    last = {i: states for each in stored for i, states in each["last"].items()}
    return FrozenStates(first_layer, entering, last)


def forget_states(folder: Path) -> None:
    """Remove what `freeze_states` kept here and in folders within: training that has ended needs it no more."""
    for path in folder.rglob("states-*.safetensors"):
        path.unlink()


def frozen_in_memory(model: nn.Module, trees: Sequence[Tree], first_layer: int) -> FrozenStates:
    """As `freeze_states`, for rows that are soon done with: nothing is written, and no last states are kept."""
    if not trees or not first_layer or why_apart(model, trees) or why_undivided(model, trees, first_layer):
        return NOTHING_FROZEN
    shard = _shard(model, trees, range(len(trees)), first_layer, [False] * len(trees))
    return FrozenStates(first_layer, shard["entering"], {})


def _too_much(model: nn.Module, trees: Sequence[Tree], most_bytes: int) -> str:
    """Say why the states of all trees are not kept; an empty text where they are."""
    decoder = decoder_of(model)
    needed = sum(t.length for t in trees) * decoder.config.hidden_size * decoder.dtype.itemsize
    if needed <= most_bytes:
        return ""
    return f"their states would take {needed / 2**30:.1f} GiB of the disk, and {most_bytes / 2**30:.0f} GiB is the most"


@torch.no_grad()
def _shard(
    model: nn.Module, trees: Sequence[Tree], shard: Sequence[int], first_layer: int, want_last: Sequence[bool]
) -> dict[str, dict[int, Tensor]]:
    entering: dict[int, Tensor] = {}
    last: dict[int, Tensor] = {}
    # Rows that need no last states are batched apart: they are spared the upper layers.
    kinds = ([i for i in shard if want_last[i] == wanted] for wanted in (True, False))
    for rows in (b for kind in kinds for b in batches(model, trees, kind, FORWARD_TOKENS)):
        batch = lay_out(model, [trees[i] for i in rows])
        states_BLD = lower_states(model, batch, first_layer) if first_layer else None
        if states_BLD is not None:
            entering.update(
                {i: states_BLD[b, columns].cpu() for i, (b, columns) in zip(rows, batch.places, strict=True)}
            )
        if want_last[rows[0]]:
            plain = states_BLD is None
            last_BLD = last_states(model, batch) if plain else upper_states(model, batch, states_BLD, first_layer)  # type: ignore[arg-type]
            last_ND = batch.predicting(last_BLD)
            last.update({i: last_ND[batch.tree_N == n] for n, i in enumerate(rows)})
    return {"entering": entering, "last": last}
