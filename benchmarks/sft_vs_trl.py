"""SFT on real answers, their tokens alone: Accord against TRL's SFTTrainer, in one process, on the same token ids.

Both train adapters of rank 16 on every linear map of every layer, on hh-rlhf's chosen answers. Accord packs what fits into a row.
TRL runs in either of two forms, whichever is faster: rows sorted by length, or packed ("bfd", the strategy that keeps rows whole:
its positions begin anew at each row, from which transformers makes a mask that keeps rows apart, with plain attention too; the
packed loss is compared to show it). Both are tuned in its favour: no gradient checkpointing, the best number format and batch size
found by a sweep, no logging. A packed step of TRL takes as many packs as hold 8 rows on average. Tokenising, packing and loading
are outside the measured time on TRL's side; Accord's packing is inside.

First the losses are compared, row by row in fp32, and the gradient of a step, with the same adapter.

The limit is what the needed work (`accord.models.work`) would take at the matrix peak measured in the same run.

Run: `python benchmarks/sft_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import trl
from contest import (
    Asked,
    Format,
    Setup,
    arguments,
    as_dataset,
    conclude,
    contests,
    formats,
    lora_config,
    parsed,
    quiet,
    time_trainer,
    trainer_options,
    tune,
    tuned_setup,
)
from epoch import train_epoch
from hh_pairs import MAX_LENGTH, MODEL, RANK, ROWS_PER_STEP, SEED, by_length, choose_pairs, extent_of_epoch, spread
from machine import REPEATS, MatrixPeak, data_folder, processor, say
from parity import (
    MOST_LOSS_DIFFERENCE,
    Agreement,
    agreement,
    batch_of,
    our_gradient,
    our_losses,
    peer_gradient,
    peer_losses,
    perturb,
)
from trl import SFTConfig, SFTTrainer

from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import Precision, choose_dtype, has_native_bf16, pick_device
from accord.models.tree import Tree
from accord.models.work import sizes_of, training_flop
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import Trainee, make_trainee
from accord.train.imitation import Learned
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.states import NOTHING_FROZEN

LEARNING_RATE = 2e-4
COMPARED_ROWS = 16
ASKED = Asked(ratio=1.5, share=0.55)
DIALS = TrainSettings(learning_rate=LEARNING_RATE, weight_decay=0.0, warmup=0.0, rows_per_step=ROWS_PER_STEP, seed=SEED)

# --- Accord ----------------------------------------------------------------------------------------------------------


def trainee_of(precision: Precision = "auto") -> Trainee:
    """Return the starter with new adapters, the same every time."""
    settings = TrainingSettings(precision=precision, rank=RANK, first_layer=0, seed=SEED)
    return make_trainee(load_model(MODEL, precision), settings)


def task_of(trainee: Trainee, trees: Sequence[Tree]) -> Mixture:
    """Return the task that `accord train sft` trains on conversations."""
    return Mixture(trees, [0] * len(trees), (Learned(trees, trainee.head),), NOTHING_FROZEN)


def time_accord(trees: Sequence[Tree], device: torch.device) -> float:
    """Return rows a second of one epoch."""
    trainee = trainee_of()
    return len(trees) / train_epoch(trainee.model, lambda: task_of(trainee, trees), DIALS, device)


# --- TRL -------------------------------------------------------------------------------------------------------------


def packed_setups(trees: Sequence[Tree], number_format: Format) -> list[Setup]:
    """Return TRL's packed form at every batch size that divides a step."""
    n_packs = max(1, round(ROWS_PER_STEP * sum(t.length for t in trees) / len(trees) / MAX_LENGTH))
    setups = []
    for size in (n for n in range(1, n_packs + 1) if n_packs % n == 0):
        plain = tuned_setup(size, number_format, rows_per_step=n_packs)
        options = {**plain.options, "packing": True, "packing_strategy": "bfd", "max_length": MAX_LENGTH}
        setups.append(Setup(plain.name.replace("sorted", f"packed to {MAX_LENGTH} tokens"), options))
    return setups


def ids_of(trees: Sequence[Tree]) -> list[dict[str, list[int]]]:
    """Return the rows in the columns that TRL's collator reads: the prompt's tokens carry no loss."""
    return [
        {"input_ids": [*t.prompt, *t.answers[0]], "labels": [-100] * len(t.prompt) + list(t.answers[0])} for t in trees
    ]


def make_trainer(folder: str, trees: Sequence[Tree], targets: Sequence[str], setup: Setup, output: str) -> Any:
    """Return a trainer of these rows."""
    options = {**trainer_options(output), "learning_rate": LEARNING_RATE, **setup.options}
    return SFTTrainer(
        model=folder,
        args=SFTConfig(**options),
        train_dataset=as_dataset(ids_of([trees[i] for i in by_length(trees)] if setup.sort else trees)),
        peft_config=lora_config(targets),
    )


def time_trl(folder: str, trees: Sequence[Tree], targets: Sequence[str], setup: Setup, device: torch.device) -> float:
    """Return rows a second of one epoch."""
    with tempfile.TemporaryDirectory() as output:
        return time_trainer(make_trainer(folder, trees, targets, setup, output), len(trees), device)


# --- The same losses -------------------------------------------------------------------------------------------------


def compare(trees: Sequence[Tree], targets: Sequence[str], device: torch.device) -> tuple[Agreement, float]:
    """Return how far apart losses (means over a row's tokens) and gradients are, and the mean loss of TRL's packs from ours."""
    trainee, rows, step = trainee_of("fp32"), ids_of(trees), list(range(min(ROWS_PER_STEP, len(trees))))
    lengths_R = torch.tensor([float(len(t.answers[0])) for t in trees])
    folder = trainee.loaded.folder
    with tempfile.TemporaryDirectory() as output, packed(trainee.model):
        trainer = make_trainer(folder, trees, targets, tuned_setup(1), output)
        task = task_of(trainee, trees)
        initial = our_losses(trainee.model, task) / lengths_R, peer_losses(trainer, rows, device)
        perturb(trainee.model)
        perturb(trainer.model)
        perturbed = our_losses(trainee.model, task) / lengths_R, peer_losses(trainer, rows, device)
        weights = (lengths_R[step] / lengths_R[step].sum()).tolist()
        gradients = (
            our_gradient(trainee.model, task, step),
            peer_gradient(trainer, [rows[i] for i in step], weights, device),
        )
        packing = make_trainer(folder, trees, targets, packed_setups(trees, ("float32", False))[0], output)
        perturb(packing.model)
        mean = float((perturbed[0] * lengths_R).sum() / lengths_R.sum())
        return agreement(initial, perturbed, gradients), abs(packed_loss(packing, device) - mean)


@torch.no_grad()
def packed_loss(trainer: Any, device: torch.device) -> float:
    """Return the mean loss a supervised token of a trainer's packs."""
    trainer.model.eval()
    total = n_tokens = 0.0
    packs: Sequence[Mapping[str, Any]] = list(trainer.train_dataset)
    for pack in packs:
        n = sum(label != -100 for label in pack["labels"])
        total += n * float(trainer.compute_loss(trainer.model, batch_of(trainer, [pack], device)))
        n_tokens += n
    return total / n_tokens


def main() -> None:
    """Compare the losses, tune TRL, measure both sides in turn, print the result."""
    options = parsed(arguments(__doc__, "rows", 64))
    quiet()
    device = pick_device()
    native, dtype = has_native_bf16(device), choose_dtype("auto", device)
    loaded = load_model(MODEL)
    pairs = choose_pairs(data_folder(), ChatFormat(loaded.tokenizer), options.rows, 80 if options.quick else MAX_LENGTH)
    trees = [Tree(t.prompt, t.answers[:1]) for t in pairs.trees]
    adapted = add_lora(loaded, RANK, first_layer=0)
    targets = sorted(adapted.peft_config["default"].target_modules)
    sizes = sizes_of(adapted)
    peak = MatrixPeak(dtype, device, repeats=1 if options.quick else REPEATS)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}")
    say(f"{len(trees)} rows, {extent_of_epoch(trees)}; {sizes}; matrix peak so far: {peak}")

    found, packed_apart = compare([trees[i] for i in spread(trees, min(COMPARED_ROWS, len(trees)))], targets, device)
    differences = found.require()
    isolated = packed_apart <= MOST_LOSS_DIFFERENCE
    say(
        f"mean loss of TRL's packs: {packed_apart:.1e} from ours; rows {'stay apart' if isolated else 'SEE EACH OTHER'} in it"
    )
    some = [trees[i] for i in spread(trees, min(len(trees), 2 * max(options.batch_sizes)))]
    time_accord(some, device)  # a process's first batch compiles
    best, sweep = tune(
        lambda setup: time_trl(loaded.folder, some, targets, setup, device),
        options.batch_sizes,
        formats(native, options.quick),
        "rows/s",
        partial(packed_setups, trees),
    )
    tuned, defaults = contests(
        best,
        native,
        len(trees),
        partial(time_accord, trees, device),
        lambda setup: time_trl(loaded.folder, trees, targets, setup, device),
        options.repetitions,
        peak,
        "rows/s",
    )
    conclude(
        f"SFT on answers alone, LoRA r{RANK} on all layers, {len(trees)} hh-rlhf rows, 1 epoch",
        ASKED,
        tuned,
        defaults,
        trees,
        lambda extent: training_flop(sizes, extent, "lora"),
        peak,
        "rows/s",
        device,
        {
            "quick": options.quick,
            "sweep": sweep,
            "precision": str(dtype),
            "largest_difference": differences,
            "peers_packs_apart": isolated,
            "packed_loss_difference": packed_apart,
            "tokens_per_row": sum(t.length for t in trees) / len(trees),
        },
    )


if __name__ == "__main__":
    main()
