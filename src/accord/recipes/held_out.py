"""What a model, or a rule, makes of held-out comparisons: accuracy, calibration, and where it goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from accord.data.checks import read_comparisons
from accord.data.flaws import longer_chosen
from accord.data.near_duplicates import nearest
from accord.errors import DataError
from accord.stats import (
    CalibrationBin,
    calibration_curve,
    clustered_proportion,
    expected_calibration_error,
    proportion,
)
from accord.types import Comparison, Conversation, Estimate, Prompt

CONFIDENCE_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# By how much the chosen answer is the longer one, in characters, relative to the rejected one.
LENGTH_SLICES = (
    ("chosen at most half as long", 0.0, 0.5),
    ("chosen shorter", 0.5, 1.0),
    ("chosen as long or longer", 1.0, 2.0),
    ("chosen at least twice as long", 2.0, float("inf")),
)
STRENGTH_SLICES = (
    ("slight preference (strength below 1/3)", 0.0, 1 / 3),
    ("clear preference", 1 / 3, 2 / 3),
    ("strong preference (2/3 and above)", 2 / 3, float("inf")),
)


class Asked(Protocol):
    """A row of any kind: a conversation that is answered."""

    @property
    def messages(self) -> Conversation:
        """What stands before the answer."""


RowT = TypeVar("RowT", bound=Asked)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Accuracies by whose they are; of the scores themselves also their calibration and accuracies by slice.

    `borders` are of single answers: on which side of 0 a cost model put them.
    """

    accuracy: Mapping[str, Estimate]
    calibration: Sequence[CalibrationBin]
    calibration_error: float | None
    slices: Mapping[str, Estimate]
    borders: Mapping[str, Estimate] = field(default_factory=dict)


def preference_accuracy(scores_R2: Tensor) -> Estimate:
    """Return how often the chosen answer scores higher. Ties decide nothing: they are counted apart. Shape [R, 2]."""
    margin = scores_R2[:, 0] - scores_R2[:, 1]
    ties = int((margin == 0).sum())
    return proportion(int((margin > 0).sum()), len(margin) - ties, {"tie": ties} if ties else {})


def borders(costs: Sequence[float], safe: Sequence[bool], families: Sequence[str]) -> dict[str, Estimate]:
    """Return how many answers have a cost on their side of 0, of all, of the harmful and of the safe ones."""
    right = [cost < 0 if is_safe else cost > 0 for cost, is_safe in zip(costs, safe, strict=True)]
    kinds = {
        "on the right side of 0": range(len(right)),
        "harmful and above 0": [i for i, s in enumerate(safe) if not s],
        "safe and below 0": [i for i, s in enumerate(safe) if s],
    }
    return {name: clustered_proportion([right[i] for i in of], [families[i] for i in of]) for name, of in kinds.items()}


def length_rules(comparisons: Sequence[Comparison]) -> dict[str, Estimate]:
    """Return the accuracy of preferring the longer answer, and the shorter."""
    return {
        "longer answer preferred": longer_chosen((c.chosen, c.rejected) for c in comparisons),
        "shorter answer preferred": longer_chosen((c.rejected, c.chosen) for c in comparisons),
    }


def measure(
    comparisons: Sequence[Comparison],
    scores_R2: Tensor,
    beside: Mapping[str, Estimate],
    name: str,
    are_logits: bool = True,
) -> HeldOut:
    """Return what there is to say of scores; `beside` are others' accuracies.

    `are_logits` says that a difference of two scores is the logit of a preference: only then is there a calibration.
    """
    margins = scores_R2[:, 0] - scores_R2[:, 1]
    decided = margins[margins != 0] if are_logits else margins[:0]
    bins = calibration_curve(
        torch.sigmoid(decided.abs().double()).tolist(), (decided > 0).tolist(), CONFIDENCE_EDGES if are_logits else ()
    )
    return HeldOut(
        accuracy={name: preference_accuracy(scores_R2), **beside, **length_rules(comparisons)},
        calibration=bins,
        calibration_error=expected_calibration_error(bins),
        slices={
            **_sliced(comparisons, scores_R2, lambda c: len(c.chosen) / len(c.rejected), LENGTH_SLICES),
            **_sliced(comparisons, scores_R2, lambda c: c.strength, STRENGTH_SLICES),
        },
    )


def _sliced(
    comparisons: Sequence[Comparison],
    scores_R2: Tensor,
    value_of: Callable[[Comparison], float | None],
    slices: Sequence[tuple[str, float, float]],
) -> dict[str, Estimate]:
    values = [value_of(c) for c in comparisons]
    if all(v is None for v in values):
        return {}
    return {
        name: preference_accuracy(scores_R2[[i for i, v in enumerate(values) if v is not None and low <= v < high]])
        for name, low, high in slices
    }


def read_held_out(dev: Path | None, train: Sequence[Comparison], drop: bool) -> tuple[list[Comparison], dict[str, str]]:
    """Return the held-out comparisons that can be measured on, and what is said of them; nothing of either without a file.

    Raises:
        DataError: rows that cannot be used (without `drop`), or none is unlike training.
    """
    if dev is None:
        return [], {}
    given = read_comparisons(dev, drop=drop)
    kept = unlike_training(given.comparisons, train, "pair")
    left_out = len(given.comparisons) - len(kept)
    return kept, {"held-out pairs": f"{given.report}, near-duplicates of training left out: {left_out}"}


def unlike_training(held_out: Sequence[RowT], train: Sequence[Asked], row: str) -> list[RowT]:
    """Return the held-out rows whose prompt is no near-duplicate of a training prompt; `row` is what one is called.

    Raises:
        DataError: none is left.
    """
    alike = {int(d.a) for d in nearest(_prompts(held_out), _prompts(train))}
    kept = [r for i, r in enumerate(held_out) if i not in alike]
    if not kept:
        raise DataError(
            f"every held-out {row}'s prompt nearly equals a training prompt: nothing independent is left to measure on"
        )
    return kept


def _prompts(rows: Sequence[Asked]) -> list[Prompt]:
    # By number: two rows of a file may have one id.
    return [Prompt(str(i), r.messages, "ordinary", "", "", "verify") for i, r in enumerate(rows)]
