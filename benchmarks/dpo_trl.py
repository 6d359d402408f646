"""TRL's side of the DPO benchmarks."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from contest import TEXT, Setup, as_dataset, lora_config, time_trainer, trainer_options
from dpo_accord import BETA, Variant
from hh_pairs import by_length
from trl import DPOConfig, DPOTrainer

from accord.models.tree import Tree

Rows = Sequence[Mapping[str, Any]]


def make_trainer(
    folder: str, variant: Variant, targets: Sequence[str], setup: Setup, output: str, rows: Rows = (TEXT,)
) -> Any:
    """Return a trainer whose data set holds rows of text as TRL itself tokenises them."""
    options = {**trainer_options(output), "beta": BETA, "precompute_ref_log_probs": variant.cached, **setup.options}
    return DPOTrainer(
        model=folder,
        args=DPOConfig(**options),
        train_dataset=as_dataset(rows),
        peft_config=lora_config(targets) if variant.method == "lora" else None,
    )


def ids_of(trees: Sequence[Tree]) -> list[dict[str, list[int]]]:
    """Return the pairs in the columns that TRL's collator reads."""
    return [
        {"prompt_ids": list(t.prompt), "chosen_ids": list(t.answers[0]), "rejected_ids": list(t.answers[1])}
        for t in trees
    ]


def give(trainer: Any, variant: Variant, setup: Setup, trees: Sequence[Tree]) -> None:
    """Put the ids in place of what the trainer was made with, with the reference's log-probabilities where they are cached."""
    rows = as_dataset(ids_of([trees[i] for i in by_length(trees)] if setup.sort else trees))
    if variant.cached:
        rows = trainer._precompute_ref_logps(rows, "train", trainer.args.per_device_train_batch_size)
    trainer.train_dataset = rows


def time_trl(
    folder: str, variant: Variant, trees: Sequence[Tree], targets: Sequence[str], setup: Setup, device: torch.device
) -> float:
    """Return pairs a second of one epoch."""
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(folder, variant, targets, setup, output)
        give(trainer, variant, setup, trees)
        return time_trainer(trainer, len(trees), device)
