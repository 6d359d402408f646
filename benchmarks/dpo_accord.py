"""Accord's side of the DPO benchmarks, and the variants that both sides are measured in. Nothing of the peer is imported here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from epoch import train_epoch
from hh_pairs import MODEL, RANK, ROWS_PER_STEP, SEED
from torch import Tensor

from accord.models.adapters import scaled
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import Precision
from accord.models.tree import Tree
from accord.objectives.dpo import dpo
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import Trainee, make_trainee
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.preferences import answer_logps, preference_task
from accord.train.states import NOTHING_FROZEN

BETA = 0.1
LEARNING_RATE = 1e-6  # TRL's default


@dataclass(frozen=True, slots=True)
class Variant:
    """What is trained, in which number format, and whether the reference is computed before the clock starts."""

    says: str
    method: Literal["lora", "full"] = "lora"
    precision: Precision = "auto"
    cached: bool = False
    least_ratio: float | None = None
    least_share: float | None = None


VARIANTS: Mapping[str, Variant] = {
    "inside": Variant("LoRA, reference inside the measured time", least_ratio=3.0, least_share=0.55),
    "cached": Variant("LoRA, reference cached on both sides", cached=True, least_ratio=3.0, least_share=0.55),
    "fp32": Variant("LoRA in fp32, reference inside the measured time", precision="fp32", least_share=0.55),
    "full": Variant("all weights, reference inside the measured time", method="full", least_ratio=2.5),
}
DIALS = TrainSettings(
    epochs=1, learning_rate=LEARNING_RATE, weight_decay=0.0, warmup=0.0, rows_per_step=ROWS_PER_STEP, seed=SEED
)


def trainee_of(variant: Variant, precision: Precision | None = None) -> Trainee:
    """Return the starter made trainable, the same every time."""
    precision = precision or variant.precision
    settings = TrainingSettings(method=variant.method, precision=precision, rank=RANK, first_layer=0, seed=SEED)
    return make_trainee(load_model(MODEL, precision), settings)


def reference(trainee: Trainee, trees: Sequence[Tree]) -> Tensor:
    """Return the reference's log-probabilities [R, 2]: the model's own before it is trained, without its adapters."""
    with packed(trainee.model), scaled(trainee.model, 0.0):
        return answer_logps(trainee.model, trees, NOTHING_FROZEN, trainee.head)


def task_of(trainee: Trainee, trees: Sequence[Tree], ref_logps: Tensor) -> Mixture:
    """Return the task."""
    return preference_task(trees, NOTHING_FROZEN, trainee.head, ref_logps, partial(dpo, beta=BETA))


def train(trainee: Trainee, trees: Sequence[Tree], device: torch.device, ref_logps: Tensor | None = None) -> float:
    """Train one epoch, the reference first where it is not given; return the seconds."""

    def task() -> Mixture:
        return task_of(trainee, trees, reference(trainee, trees) if ref_logps is None else ref_logps)

    return train_epoch(trainee.model, task, DIALS, device)


def time_accord(variant: Variant, trees: Sequence[Tree], device: torch.device) -> float:
    """Return pairs a second of one epoch; loading is outside the measured time."""
    trainee = trainee_of(variant)
    cached = reference(trainee, trees) if variant.cached else None
    return len(trees) / train(trainee, trees, device, cached)
