"""A reward model with LoRA on real comparisons: Accord against TRL's RewardTrainer, in one process, on the same token ids.

Both take the same optimiser steps of 8 pairs, adapt every linear map of every layer with rank 16 and train the head. TRL runs with
its defaults, and tuned in its favour (no gradient checkpointing, the best number format and batch size found by a sweep, pairs
sorted by length, no logging). Tokenising and loading are outside the measured time on both sides. First the losses are compared,
pair by pair in fp32, and the gradient of a step, with the same head and adapter.

The limit is what the needed work (`accord.models.work`) would take at the matrix peak measured in the same run.

Run: `python benchmarks/reward_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trl
from contest import (
    TEXT,
    Asked,
    Setup,
    arguments,
    as_dataset,
    conclude,
    contests,
    formats,
    lora_config,
    n_swept,
    parsed,
    quiet,
    time_trainer,
    trainer_options,
    tune,
    tuned_setup,
)
from epoch import train_epoch
from hh_pairs import (
    ALPHA,
    MAX_LENGTH,
    MODEL,
    RANK,
    ROWS_PER_STEP,
    SEED,
    by_length,
    choose_pairs,
    extent_of_epoch,
)
from machine import REPEATS, MatrixPeak, data_folder, processor, say
from parity import Agreement, agreement, our_gradient, our_losses, peer_gradient, peer_losses, perturb
from safetensors import safe_open
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging
from trl import RewardConfig, RewardTrainer

from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import Precision, choose_dtype, has_native_bf16, pick_device
from accord.models.reward import reward_tokenizer, score_head, with_score_head
from accord.models.tree import Tree
from accord.models.work import sizes_of, training_flop
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.rewards import Ranking, reward_task
from accord.train.states import NOTHING_FROZEN

LEARNING_RATE = 1e-5
ASKED = Asked(ratio=3.0, share=0.55)
DIALS = TrainSettings(learning_rate=LEARNING_RATE, weight_decay=0.0, warmup=0.0, rows_per_step=ROWS_PER_STEP, seed=SEED)


def base_folder(place: Path) -> tuple[Path, list[str]]:
    """Write the starter with a random head, as both sides begin; return the folder and the names of the maps to adapt."""
    loaded = with_score_head(load_model(MODEL, "fp32"))
    torch.manual_seed(SEED)
    nn.init.normal_(score_head(loaded.model).weight, std=0.02)
    hf_logging.disable_progress_bar()
    loaded.model.save_pretrained(place)
    reward_tokenizer(loaded.model, loaded.tokenizer).save_pretrained(place)
    return place, sorted(add_lora(loaded, RANK, first_layer=0).peft_config["default"].target_modules)


def accord_model(place: Path, precision: Precision = "auto") -> nn.Module:
    """Return Accord's side: the starter, the same head, new adapters."""
    loaded = with_score_head(load_model(MODEL, precision))
    with torch.no_grad(), safe_open(place / "model.safetensors", "pt") as file:
        score_head(loaded.model).weight.copy_(file.get_tensor("score.weight"))
    torch.manual_seed(SEED)
    model: nn.Module = add_lora(loaded, RANK, first_layer=0, alpha=ALPHA)
    return model


def task_of(model: nn.Module, trees: Sequence[Tree]) -> Mixture:
    """Return the task."""
    return reward_task(trees, [Ranking(((0, 1),))] * len(trees), NOTHING_FROZEN, score_head(model))


def time_accord(place: Path, trees: Sequence[Tree], device: torch.device) -> float:
    """Return pairs a second of one epoch."""
    model = accord_model(place)
    return len(trees) / train_epoch(model, lambda: task_of(model, trees), DIALS, device)


def make_trainer(place: Path, targets: Sequence[str], setup: Setup, output: str) -> Any:
    """Return TRL's side: the same folder, head trained in full beside the adapters."""
    options = {**trainer_options(output), "learning_rate": LEARNING_RATE, **setup.options}
    return RewardTrainer(
        model=str(place),
        args=RewardConfig(**options),
        train_dataset=as_dataset([TEXT]),
        processing_class=AutoTokenizer.from_pretrained(place),
        peft_config=lora_config(targets, "SEQ_CLS", modules_to_save=["score"]),
    )


def ids_of(trees: Sequence[Tree]) -> list[dict[str, list[int]]]:
    """Return the pairs in the columns that TRL's collator reads."""
    return [{f"{n}_ids": [*t.prompt, *t.answers[k]] for k, n in enumerate(("chosen", "rejected"))} for t in trees]


def time_trl(place: Path, trees: Sequence[Tree], targets: Sequence[str], setup: Setup, device: torch.device) -> float:
    """Return pairs a second of one epoch."""
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(place, targets, setup, output)
        trainer.train_dataset = as_dataset(ids_of([trees[i] for i in by_length(trees)] if setup.sort else trees))
        return time_trainer(trainer, len(trees), device)


def compare(place: Path, trees: Sequence[Tree], targets: Sequence[str], device: torch.device) -> Agreement:
    """Return how far apart the two sides' losses and gradients are, in fp32."""
    model, rows, step = accord_model(place, "fp32"), ids_of(trees), list(range(min(ROWS_PER_STEP, len(trees))))
    with tempfile.TemporaryDirectory() as output, packed(model):
        trainer = make_trainer(place, targets, tuned_setup(1), output)
        task = task_of(model, trees)
        initial = our_losses(model, task), peer_losses(trainer, rows, device)
        perturb(model)
        perturb(trainer.model)
        perturbed = our_losses(model, task), peer_losses(trainer, rows, device)
        weights = [1 / len(step)] * len(step)
        gradients = (
            our_gradient(model, task, step),
            peer_gradient(trainer, [rows[i] for i in step], weights, device),
        )
    return agreement(initial, perturbed, gradients)


def main() -> None:
    """Compare the losses, tune TRL, measure both sides in turn, print the result."""
    options = parsed(arguments(__doc__, "pairs"))
    quiet()
    device = pick_device()
    native, dtype = has_native_bf16(device), choose_dtype("auto", device)
    chat = ChatFormat(load_model(MODEL).tokenizer)
    pairs = choose_pairs(data_folder(), chat, options.rows, 80 if options.quick else MAX_LENGTH)
    trees = pairs.trees
    peak = MatrixPeak(dtype, device, repeats=1 if options.quick else REPEATS)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}")
    with tempfile.TemporaryDirectory() as scratch:
        place, targets = base_folder(Path(scratch) / "model")
        sizes = sizes_of(accord_model(place))
        say(f"{len(trees)} pairs, {extent_of_epoch(trees)}; {sizes}; matrix peak so far: {peak}")
        differences = compare(place, trees, targets, device).require()
        some = pairs.spread(n_swept(device, options.rows, options.batch_sizes)).trees
        time_accord(place, some, device)  # a process's first batch compiles
        best, sweep = tune(
            lambda setup: time_trl(place, some, targets, setup, device),
            options.batch_sizes,
            formats(native, options.quick),
            "pairs/s",
        )
        tuned, defaults = contests(
            best,
            native,
            len(trees),
            partial(time_accord, place, trees, device),
            lambda setup: time_trl(place, trees, targets, setup, device),
            options.repetitions,
            peak,
            "pairs/s",
        )
    conclude(
        f"reward model, LoRA r{RANK} on all layers, {len(trees)} hh-rlhf pairs, 1 epoch",
        ASKED,
        tuned,
        defaults,
        trees,
        lambda extent: training_flop(sizes, extent, "lora"),
        peak,
        "pairs/s",
        device,
        {"quick": options.quick, "sweep": sweep, "precision": str(dtype), "largest_difference": differences},
    )


if __name__ == "__main__":
    main()
