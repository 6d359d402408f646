"""The retain term beside any other task: rows along whose answers the model stays with what it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from accord.models.head import Head
from accord.models.packed import packed
from accord.models.tree import Tree
from accord.train.imitation import Matched
from accord.train.mixture import Mixture
from accord.train.states import FrozenStates, freeze_states
from accord.types import Progress


@dataclass(frozen=True, slots=True)
class Retained:
    """Benign prompts with the answers along which the base model's distribution is kept, and the weight of that loss."""

    trees: Sequence[Tree] = ()
    weight: float = 1.0

    def facts(self) -> dict[str, int]:
        """Return how many rows there are, where there are any."""
        return {"retained rows": len(self.trees)} if self.trees else {}

    def beside(
        self,
        task: Mixture,
        model: nn.Module,
        first_layer: int,
        head: Head,
        base_head: Head,
        folder: Path,
        progress: Progress,
    ) -> Mixture:
        """Return a task with these rows after its own, and their loss (`objectives.retain`) beside its losses.

        The base model is the model as it is now, with `base_head`; its states are kept in `folder`. Without rows, the task is
        returned as it is.
        """
        n, n_own = len(task.trees), len(self.trees)
        if not n_own:
            return task
        with packed(model):
            # Where the task's own rows run the frozen layers in each pass these would be kept for nothing.
            entering = first_layer if task.states.first_layer else 0
            frozen = freeze_states(model, self.trees, entering, [True] * n_own, folder, progress)
        trees = [*task.trees, *self.trees]
        base = FrozenStates(0, {}, {n + i: states for i, states in frozen.last.items()})
        part = Matched(trees, base, head, base_head, coefficient=self.weight)
        part_of = [*task.part_of, *[len(task.parts)] * n_own]
        return Mixture(trees, part_of, (*task.parts, part), task.states.followed_by(frozen, n))


NOTHING_RETAINED = Retained()
