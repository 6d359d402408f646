"""What is trained, as rows of several kinds: one forward for all rows of a batch, then each kind's own losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from accord.models.sharing import batches, positions, why_apart
from accord.models.tree import Tree, TreeBatch
from accord.models.work import Sizes, extent_of, first_trained_layer, lengths_of, sizes_of, training_flop
from accord.objectives.reduction import Losses, Totals
from accord.train.offline import Term
from accord.train.states import FrozenStates
from accord.train.watch import Work


class Part(ABC):
    """One kind of rows and their losses. Kinds are divided by their own totals: none outweighs another by having more rows."""

    name: str
    coefficient: float

    @abstractmethod
    def totals(self, rows: Sequence[int]) -> Totals:
        """Return how many supervised tokens and examples these rows hold."""

    @abstractmethod
    def losses(self, batch: TreeBatch, hidden_BLD: Tensor, rows: Sequence[int], shared: Any) -> list[Losses]:
        """Return the losses of some rows, whose answers are those of `batch`; `shared` is what `before_step` returned."""

    def before_step(self, model: nn.Module, rows: Sequence[int]) -> Any:
        """Return what the losses of a step's rows have in common: nothing, in most parts."""
        return None


@dataclass(frozen=True, slots=True)
class Mixture:
    """Trees, which part each belongs to (`part_of`, by row), and the parts."""

    trees: Sequence[Tree]
    part_of: Sequence[int]
    parts: Sequence[Part]
    states: FrozenStates

    def prepare(self, model: nn.Module) -> Sizes:
        """Try whether prompts can be shared on the longest of all rows, so that no later batch is a trial's occasion.

        Return the sizes of what is trained, from the first trained layer on: what is below it need not run in each pass.
        """
        why_apart(model, self.trees)
        return sizes_of(model, first_trained_layer(model))

    def totals(self, rows: Sequence[int]) -> Mapping[str, Totals]:
        """Return, by part, how many supervised tokens and examples these rows hold."""
        return {self.parts[k].name: self.parts[k].totals(own) for k, own in self._by_part(rows).items()}

    def batches(self, model: nn.Module, rows: Sequence[int], token_budget: int) -> list[list[int]]:
        """Split rows into micro-batches of at most so many computed positions."""
        return batches(model, self.trees, rows, token_budget)

    def before_step(self, model: nn.Module, rows: Sequence[int]) -> dict[int, Any]:
        """Return, by part, what the losses of a step's rows have in common."""
        return {k: self.parts[k].before_step(model, own) for k, own in self._by_part(rows).items()}

    def terms(self, model: nn.Module, rows: Sequence[int], shared: Mapping[int, Any]) -> list[Term]:
        """Return the losses of one micro-batch."""
        batch, hidden_BLD = self.states.last_states(model, self.trees, rows)
        terms: list[Term] = []
        for k, own in self._by_part(rows).items():
            part = self.parts[k]
            of_part = (
                batch if len(own) == len(rows) else batch.some([n for n, i in enumerate(rows) if self.part_of[i] == k])
            )
            losses = part.losses(of_part, hidden_BLD, own, shared[k])
            terms += [Term(part.name, each, part.coefficient) for each in losses]
        return terms

    def work(self, model: nn.Module, micros: Sequence[Sequence[int]], prepared: Sizes) -> Work:
        """Return what micro-batches come to; `prepared` are the sizes of what is trained."""
        trained: Literal["lora", "full"] = "lora" if hasattr(model, "peft_config") else "full"
        total = Work()
        for micro in micros:
            trees = [self.trees[i] for i in micro]
            flop = training_flop(prepared, extent_of(lengths_of(trees)), trained)
            total += Work(sum(t.length for t in trees), *positions(model, trees), flop)
        return total

    def _by_part(self, rows: Sequence[int]) -> dict[int, list[int]]:
        kinds: dict[int, list[int]] = {}
        for i in rows:
            kinds.setdefault(self.part_of[i], []).append(i)
        return dict(sorted(kinds.items()))
