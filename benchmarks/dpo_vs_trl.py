"""DPO on real comparisons: Accord against TRL's DPOTrainer, in one process, on the same token ids.

Measured in turn with Accord's tree forward and loop, on the same pairs: TRL tuned in its favour (no gradient checkpointing, the
best number format and batch size found by a sweep, pairs sorted by length, no logging), and once TRL with its defaults. All take
the same optimiser steps of 8 pairs. `--variant` says what is trained: `inside` (adapters of rank 16 on every linear map of every
layer, the reference inside the measured time), `cached` (the reference before it, on both sides), `fp32`, `full` (all weights).
Tokenising and loading are outside the measured time on all sides.

First the losses are compared, pair by pair in fp32, and the gradient of a step: at the initial weights, where every loss is ln 2
and the reference's log-probabilities are what differs, and with the same changed weights on both sides.

The limit is what the needed work (`accord.models.work`) would take at the matrix peak measured in the same run.

Run: `python benchmarks/dpo_vs_trl.py [--quick] [--variant inside]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import trl
from contest import Asked, arguments, conclude, contests, formats, n_swept, parsed, quiet, tune, tuned_setup
from dpo_accord import VARIANTS, Variant, reference, task_of, time_accord, trainee_of
from dpo_trl import ids_of, make_trainer, time_trl
from hh_pairs import MAX_LENGTH, MODEL, RANK, ROWS_PER_STEP, Pairs, choose_pairs, extent_of_epoch
from machine import REPEATS, MatrixPeak, data_folder, processor, say
from parity import Agreement, agreement, batch_of, our_gradient, our_losses, peer_gradient, peer_losses, perturb

from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import choose_dtype, has_native_bf16, pick_device
from accord.models.work import sizes_of, training_flop

# Their losses are compared one by one.
COMPARED_PAIRS = 32


def texts_of(pairs: Pairs) -> list[dict[str, Any]]:
    """Return the pairs as conversations."""
    return [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in c.messages],
            "chosen": [{"role": "assistant", "content": c.chosen}],
            "rejected": [{"role": "assistant", "content": c.rejected}],
        }
        for c in pairs.comparisons
    ]


def describe_tokenisation(trainer: Any, pairs: Pairs, chat: ChatFormat) -> str:
    """Say in how many pairs TRL's own token ids differ from Accord's, and how."""
    reasons: dict[str, int] = {}
    for row, ours in zip(trainer.train_dataset, ids_of(pairs.trees), strict=True):
        if row["prompt_ids"] != ours["prompt_ids"]:
            reason = "in the prompt"
        elif all(row[k] == ours[k] for k in ("chosen_ids", "rejected_ids")):
            reason = "nowhere"
        else:
            tails = {
                chat.tokenizer.decode(row[k][len(ours[k]) :]) if row[k][: len(ours[k])] == ours[k] else None
                for k in ("chosen_ids", "rejected_ids")
            }
            reason = "within an answer" if None in tails else f"after the end of the turn, where TRL also has {tails}"
        reasons[reason] = reasons.get(reason, 0) + 1
    return "; ".join(f"{n} of {len(pairs.trees)} pairs differ {reason}" for reason, n in reasons.items())


def compare(variant: Variant, pairs: Pairs, targets: Sequence[str], device: torch.device) -> tuple[Agreement, str]:
    """Return how far apart the two sides' losses and gradients are, and where TRL's own token ids differ."""
    trainee = trainee_of(variant, "fp32")
    rows, step = ids_of(pairs.trees), list(range(min(ROWS_PER_STEP, len(pairs.trees))))
    weights = [1 / len(step)] * len(step)
    # What TRL caches is what it computes in a step: one comparison serves both.
    plain = replace(variant, cached=False)
    with tempfile.TemporaryDirectory() as output, packed(trainee.model):
        trainer = make_trainer(trainee.loaded.folder, plain, targets, tuned_setup(1), output, texts_of(pairs))
        tokenisation = describe_tokenisation(trainer, pairs, trainee.chat)
        ref_logps = reference(trainee, pairs.trees)
        refs = [
            trainer.compute_ref_log_probs(trainer.ref_model or trainer.model, batch_of(trainer, [row], device))
            for row in rows
        ]
        apart = (ref_logps - torch.tensor(refs)).abs().max().item()
        say(f"largest difference of the reference's log-probabilities, sums over an answer: {apart:.1e}")
        task = task_of(trainee, pairs.trees, ref_logps)
        initial = our_losses(trainee.model, task), peer_losses(trainer, rows, device)
        perturb(trainee.model)
        perturb(trainer.model)
        perturbed = our_losses(trainee.model, task), peer_losses(trainer, rows, device)
        gradients = (
            our_gradient(trainee.model, task, step),
            peer_gradient(trainer, [rows[i] for i in step], weights, device),
        )
    return agreement(initial, perturbed, gradients), tokenisation


def main() -> None:
    """Compare the losses, tune TRL, measure all sides in turn, print the result."""
    parser = arguments(__doc__, "pairs")
    parser.add_argument("--variant", choices=sorted(VARIANTS), default="inside")
    options = parsed(parser)
    quiet()
    variant, device = VARIANTS[options.variant], pick_device()
    loaded = load_model(MODEL)
    chat = ChatFormat(loaded.tokenizer)
    pairs = choose_pairs(data_folder(), chat, options.rows, 80 if options.quick else MAX_LENGTH)
    trees = pairs.trees
    adapted = add_lora(loaded, RANK, first_layer=0)
    targets = sorted(adapted.peft_config["default"].target_modules)
    sizes, passes = sizes_of(adapted), 0 if variant.cached else 1
    dtype = choose_dtype(variant.precision, device)
    native = has_native_bf16(device) and variant.precision != "fp32"
    peak = MatrixPeak(dtype, device, repeats=1 if options.quick else REPEATS)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}; {variant.says}")
    say(f"{len(trees)} pairs, {extent_of_epoch(trees)}; {sizes}; matrix peak so far: {peak}")

    found, tokenisation = compare(variant, pairs.spread(min(COMPARED_PAIRS, options.rows)), targets, device)
    say(f"TRL's own token ids against those that both sides are given here: {tokenisation}")
    differences = found.require()

    some = pairs.spread(n_swept(device, options.rows, options.batch_sizes)).trees
    time_accord(variant, some, device)  # a process's first batch compiles
    rate_on = partial(time_trl, loaded.folder, variant, targets=targets, device=device)
    best, sweep = tune(
        lambda setup: rate_on(some, setup=setup), options.batch_sizes, formats(native, options.quick), "pairs/s"
    )
    tuned, defaults = contests(
        best,
        native,
        len(trees),
        partial(time_accord, variant, trees, device),
        lambda setup: rate_on(trees, setup=setup),
        options.repetitions,
        peak,
        "pairs/s",
    )
    conclude(
        f"DPO, {variant.says}, {len(trees)} hh-rlhf pairs, 1 epoch",
        Asked(variant.least_ratio, variant.least_share),
        tuned,
        defaults,
        trees,
        lambda extent: training_flop(sizes, extent, variant.method, passes),
        peak,
        "pairs/s",
        device,
        {
            "variant": options.variant,
            "quick": options.quick,
            "sweep": sweep,
            "precision": str(dtype),
            "native_bf16": has_native_bf16(device),
            "largest_difference": differences,
            "tokenisation": tokenisation,
        },
    )


if __name__ == "__main__":
    main()
