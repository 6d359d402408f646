"""A reward model with LoRA on real comparisons: Accord against TRL's RewardTrainer, in one process, on the same token ids.

Both take the same optimiser steps of 8 pairs, adapt every linear map of every layer with rank 16 and train the head. TRL runs with
its defaults, and tuned in its favour (no gradient checkpointing, the best number format and batch size found by a sweep, pairs
sorted by length). Tokenising and loading are outside the measured time on both sides. First the losses are compared, pair by pair
in fp32, with the same head and adapter.

Needed work is counted without attention, norms and the adapters' own products: 2 FLOP a weight and token forward, as much again
backward (frozen weights need no gradient of their own), the prompt once a pair.

Run: `python benchmarks/reward_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from contest import Setup, contest, tune, tuned_setup
from datasets import Dataset, disable_progress_bars
from dpo_vs_trl import ALPHA, MAX_LENGTH, PAIRS_PER_STEP, RANK, SEED, Pairs, choose_pairs, perturb
from machine import MatrixPeak, clock, data_folder, finish, processor, say
from peft import LoraConfig
from safetensors import safe_open
from torch import nn
from transformers import AutoTokenizer, PrinterCallback
from transformers.utils import logging as hf_logging
from trl import RewardConfig, RewardTrainer

from accord.models.adapters import add_lora
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import Precision, has_native_bf16, pick_device
from accord.models.reward import reward_tokenizer, score_answers, score_head, with_score_head
from accord.models.tree import Tree, decoder_of
from accord.train.offline import TrainSettings, fit
from accord.train.rewards import Ranking, reward_task
from accord.train.states import NOTHING_FROZEN
from accord.types import Silent

LEARNING_RATE = 1e-5
LEAST_RATIO_TUNED, MOST_LOSS_DIFFERENCE = 3.0, 1e-3
DEFAULTS = Setup("defaults (bf16 autocast, gradient checkpointing, batch 8)")
TEXT = [
    {
        "prompt": [{"role": "user", "content": "a"}],
        "chosen": [{"role": "assistant", "content": "b"}],
        "rejected": [{"role": "assistant", "content": "c"}],
    }
] * 8


def needed_flop(trees: Sequence[Tree], model: nn.Module) -> float:
    """Return the work that cannot be avoided for one pass over the pairs (see the module's docstring)."""
    layers = decoder_of(model).layers
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear))
    return 4.0 * linear * sum(t.length for t in trees)


def base_folder(place: Path) -> tuple[Path, list[str]]:
    """Write the starter with a random head, as both sides begin; return the folder and the names of the maps to adapt."""
    loaded = with_score_head(load_model("starter", "fp32"))
    torch.manual_seed(SEED)
    nn.init.normal_(score_head(loaded.model).weight, std=0.02)
    loaded.model.save_pretrained(place)
    reward_tokenizer(loaded.model, loaded.tokenizer).save_pretrained(place)
    return place, sorted(add_lora(loaded, RANK, first_layer=0).peft_config["default"].target_modules)


def accord_model(place: Path, precision: Precision = "auto") -> nn.Module:
    """Return Accord's side: the starter, the same head, new adapters."""
    loaded = with_score_head(load_model("starter", precision))
    with torch.no_grad(), safe_open(place / "model.safetensors", "pt") as file:
        score_head(loaded.model).weight.copy_(file.get_tensor("score.weight"))
    torch.manual_seed(SEED)
    model: nn.Module = add_lora(loaded, RANK, first_layer=0, alpha=ALPHA)
    return model


def time_accord(place: Path, pairs: Pairs, device: torch.device) -> float:
    """Return pairs a second of one epoch."""
    model = accord_model(place)
    AcceleratorState._reset_state(reset_partial_state=True)
    dials = TrainSettings(
        learning_rate=LEARNING_RATE, weight_decay=0.0, warmup=0.0, rows_per_step=PAIRS_PER_STEP, seed=SEED
    )
    with tempfile.TemporaryDirectory() as folder:
        began = clock(device)
        with packed(model):
            task = reward_task(pairs.trees, [Ranking(((0, 1),))] * len(pairs.trees), NOTHING_FROZEN, score_head(model))
            fit(model, task, dials, Path(folder), Silent(), "reward")
        return len(pairs.trees) / (clock(device) - began)


def trl_trainer(place: Path, targets: Sequence[str], setup: Setup, output: str) -> Any:
    """Return TRL's side: the same folder, head trained in full beside the adapters."""
    AcceleratorState._reset_state(reset_partial_state=True)
    hf_logging.disable_progress_bar()
    common: dict[str, Any] = {
        "output_dir": output,
        "num_train_epochs": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),
    }
    trainer = RewardTrainer(
        model=str(place),
        args=RewardConfig(**common, **setup.options),
        train_dataset=Dataset.from_list(TEXT),
        processing_class=AutoTokenizer.from_pretrained(place),
        peft_config=LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules=list(targets), task_type="SEQ_CLS", modules_to_save=["score"]
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def ids_of(trees: Sequence[Tree]) -> list[dict[str, list[int]]]:
    """Return the pairs in the columns that TRL's collator reads."""
    return [{f"{n}_ids": [*t.prompt, *t.answers[k]] for k, n in enumerate(("chosen", "rejected"))} for t in trees]


def time_trl(place: Path, pairs: Pairs, targets: Sequence[str], setup: Setup, device: torch.device) -> float:
    """Return pairs a second of one epoch."""
    if setup.sort:
        pairs = pairs.some(pairs.by_length())
    with tempfile.TemporaryDirectory() as output:
        trainer = trl_trainer(place, targets, setup, output)
        trainer.train_dataset = Dataset.from_list(ids_of(pairs.trees))
        began = clock(device)
        trainer.train()
        return len(pairs.trees) / (clock(device) - began)


def largest_difference(place: Path, pairs: Pairs, targets: Sequence[str], device: torch.device) -> float:
    """Return by how much a pair's loss differs at most, in fp32, with the same random adapter."""
    model = accord_model(place, "fp32")
    perturb(model)
    scores = score_answers(model, pairs.trees)
    ours = -nn.functional.logsigmoid(scores[:, 0] - scores[:, 1])
    with tempfile.TemporaryDirectory() as output, torch.no_grad():
        trainer = trl_trainer(place, targets, tuned_setup(1, PAIRS_PER_STEP), output)
        perturb(trainer.model)
        trainer.model.eval()
        theirs = []
        for row in ids_of(pairs.trees):
            batch = {name: tensor.to(device) for name, tensor in trainer.data_collator([row]).items()}
            theirs.append(trainer.compute_loss(trainer.model, batch).item())
    return float((ours - torch.tensor(theirs)).abs().max())


def main() -> None:
    """Compare the losses, tune TRL, measure both sides in turn, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="2 short pairs, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="tried for TRL tuned")
    options = parser.parse_args()
    folder, max_length = data_folder(), MAX_LENGTH
    if options.quick:
        options.pairs, options.repetitions, options.batch_sizes, max_length = 2, 1, [1, 2], 80
    disable_progress_bars()
    hf_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)
    device = pick_device()
    loaded = load_model("starter")
    pairs = choose_pairs(folder, ChatFormat(loaded.tokenizer), options.pairs, max_length)
    flop = needed_flop(pairs.trees, loaded.model)
    peak = MatrixPeak(loaded.model.dtype, device, seconds=0.2 if options.quick else 1.0)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}; matrix peak so far: {peak}")
    with tempfile.TemporaryDirectory() as scratch:
        place, targets = base_folder(Path(scratch) / "model")
        difference = largest_difference(place, pairs, targets, device)
        say(f"largest difference of a pair's loss in fp32, one random adapter on both sides: {difference:.1e}")
        some = pairs.spread(min(options.pairs, max(options.batch_sizes)))
        time_accord(place, some, device)  # a process's first batch compiles
        best, sweep = tune(
            lambda setup: time_trl(place, some, targets, setup, device),
            options.batch_sizes,
            PAIRS_PER_STEP,
            has_native_bf16(device),
            "pairs/s",
        )
        ours = partial(time_accord, place, pairs, device)
        results = [
            contest(
                f"TRL {setup.name}",
                options.pairs,
                ours,
                partial(time_trl, place, pairs, targets, setup, device),
                repetitions,
                peak,
                "pairs/s",
            )
            for setup, repetitions in ((best, options.repetitions), (DEFAULTS, 1))
        ]
    tuned, defaults = results
    rate = statistics.median(tuned.ours)
    share = rate * flop / options.pairs / peak.best
    for each in results:
        say(f"Accord is {each.ratio:.2f} x {each.name}")
    say(f"Accord reaches {share:.0%} of the matrix peak ({peak}) on the work that is needed")
    finish(
        {
            "work": f"reward model, LoRA r{RANK} on all layers, {options.pairs} hh-rlhf pairs, 1 epoch",
            "ours": rate,
            "peer": statistics.median(tuned.peer),
            "unit": "pairs/s",
            "ratio": tuned.ratio,
            "ratio_defaults": defaults.ratio,
            "share_of_limit": share,
            "processor": processor(device),
            "quick": options.quick,
            "met": tuned.ratio >= LEAST_RATIO_TUNED and difference <= MOST_LOSS_DIFFERENCE,
            "contests": [each.record() for each in results],
            "sweep": sweep,
            "matrix_peak_gflops": {name: value / 1e9 for name, value in peak.flops.items()},
            "largest_difference": difference,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        }
    )


if __name__ == "__main__":
    main()
