"""DPO with LoRA on real comparisons: Accord against TRL's DPOTrainer, in one process, on the same token ids.

Measured in turn with Accord's tree forward and loop, on the same pairs: TRL with its defaults, and TRL tuned in its favour (no
gradient checkpointing, the best number format and batch size found by a sweep, pairs sorted by length). All take the same
optimiser steps of 8 pairs, adapt every linear map of every layer with rank 16, and compute the reference's log-probabilities
inside the measured time. Tokenising and loading are outside it on all sides.

TRL's defaults multiply in bf16. A processor that has none emulates it, far below fp32's speed, so that the ratio says more of
that default than of TRL: it is then measured on a few pairs only, and once more with fp32 in TRL's favour.

First the losses are compared, pair by pair in fp32: at the initial weights, where every loss is ln 2 and the reference's
log-probabilities are what differs, and with the same random adapter on both sides.

Needed work is counted without attention, adapters and norms: 2 FLOP a weight and token forward, as much again backward (frozen
weights need no gradient of their own), the head at answer tokens only, the prompt once a pair, one forward of the reference.

Run: `python benchmarks/dpo_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from contest import Contest, Setup, contest, tune, tuned_setup
from datasets import Dataset, disable_progress_bars
from machine import MatrixPeak, clock, data_folder, finish, processor, say
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PrinterCallback
from transformers.utils import logging as hf_logging
from trl import DPOConfig, DPOTrainer

from accord.data import read_comparisons
from accord.models.adapters import add_lora, scaled
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, load_model
from accord.models.packed import packed
from accord.models.precision import Precision, has_native_bf16, pick_device
from accord.models.projection import Projection
from accord.models.tree import Tree, decoder_of, head_weight, micro_batches
from accord.objectives.dpo import dpo
from accord.train.offline import TrainSettings, fit
from accord.train.preferences import answer_logps, preference_task
from accord.train.states import FrozenStates
from accord.types import Comparison, Silent

SEED = 0
BETA = 0.1
RANK = ALPHA = 16
PAIRS_PER_STEP = 8  # TRL's default batch
MAX_LENGTH = 1024  # TRL's default; a longer pair would be cut there and not here
LEARNING_RATE = 1e-6  # TRL's default
LEAST_RATIO_DEFAULTS, LEAST_RATIO_TUNED, MOST_LOSS_DIFFERENCE = 4.0, 2.0, 1e-3


DEFAULTS = Setup("defaults (bf16 autocast, gradient checkpointing, batch 8)")
DEFAULTS_FP32 = Setup("defaults, but fp32", {"bf16": False})


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same pairs for both sides: conversations for TRL's own tokenisation, and the ids that both are given."""

    comparisons: tuple[Comparison, ...]
    trees: tuple[Tree, ...]

    def some(self, rows: Sequence[int]) -> Pairs:
        """Return the pairs of some rows."""
        return Pairs(tuple(self.comparisons[i] for i in rows), tuple(self.trees[i] for i in rows))

    def by_length(self) -> list[int]:
        """Return the rows, the longest first, as TRL pads them: prompt and longer answer."""
        lengths = [len(t.prompt) + max(map(len, t.answers)) for t in self.trees]
        return sorted(range(len(lengths)), key=lambda i: -lengths[i])

    def spread(self, n: int) -> Pairs:
        """Return n pairs of evenly spread lengths."""
        rows = self.by_length()
        return self.some([rows[(2 * k + 1) * len(rows) // (2 * n)] for k in range(n)])


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest absolute differences between the two sides over all pairs, in fp32."""

    ref_logps: float
    loss_initial: float
    loss_perturbed: float
    least_perturbed_loss: float
    greatest_perturbed_loss: float


def choose_pairs(folder: Path, chat: ChatFormat, n_pairs: int, max_length: int) -> Pairs:
    """Return a fixed random choice of the usable pairs whose prompt and longer answer are below `max_length` tokens."""
    usable: list[tuple[Comparison, tuple[int, ...], tuple[tuple[int, ...], ...]]] = []
    for name in ("dev", "train"):
        path = folder / "hh-rlhf" / f"harmless-base.{name}.jsonl.gz"
        for comparison in read_comparisons(path, drop=True).comparisons:
            chosen = chat.render(comparison.messages, comparison.chosen)
            rejected = chat.render(comparison.messages, comparison.rejected)
            # One spare token: TRL's own tokenisation has a newline after the end of the turn.
            if len(chosen.prompt) + max(len(chosen.answer), len(rejected.answer)) < max_length:
                usable.append((comparison, chosen.prompt, (chosen.answer, rejected.answer)))
    picked = random.Random(SEED).sample(usable, n_pairs)
    trees = tuple(Tree(prompt, answers) for _, prompt, answers in picked)
    return Pairs(tuple(comparison for comparison, _, _ in picked), trees)


def needed_flop(trees: Sequence[Tree], model: nn.Module) -> float:
    """Return the work that cannot be avoided for one pass over the pairs (see the module's docstring)."""
    layers = decoder_of(model).layers
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear))
    head = head_weight(model).numel()
    forward = sum(2 * linear * t.length + 2 * head * sum(map(len, t.answers)) for t in trees)
    return 3.0 * forward


# --- TRL -------------------------------------------------------------------------------------------------------------


def trl_trainer(folder: str, pairs: Pairs, targets: Sequence[str], setup: Setup, output: str) -> Any:
    """Return a trainer whose data set holds the pairs as TRL itself tokenises them."""
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # the state is global: it would keep the last run's precision
    hf_logging.disable_progress_bar()
    common: dict[str, Any] = {
        "output_dir": output,
        "num_train_epochs": 1,
        "beta": BETA,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),  # without it TRL's bf16 default is refused on a CPU
    }
    rows = [
        {
            "prompt": [{"role": m.role, "content": m.content} for m in c.messages],
            "chosen": [{"role": "assistant", "content": c.chosen}],
            "rejected": [{"role": "assistant", "content": c.rejected}],
        }
        for c in pairs.comparisons
    ]
    trainer = DPOTrainer(
        model=folder,
        args=DPOConfig(**common, **setup.options),
        train_dataset=Dataset.from_list(rows),
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(targets), task_type="CAUSAL_LM"),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def ids_of(trees: Sequence[Tree]) -> list[dict[str, list[int]]]:
    """Return the pairs in the columns that TRL's collator reads."""
    return [
        {"prompt_ids": list(t.prompt), "chosen_ids": list(t.answers[0]), "rejected_ids": list(t.answers[1])}
        for t in trees
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


def time_trl(folder: str, pairs: Pairs, targets: Sequence[str], setup: Setup, device: torch.device) -> float:
    """Return pairs a second of one epoch."""
    if setup.sort:
        pairs = pairs.some(pairs.by_length())
    with tempfile.TemporaryDirectory() as output:
        trainer = trl_trainer(folder, pairs, targets, setup, output)
        trainer.train_dataset = Dataset.from_list(ids_of(pairs.trees))
        began = clock(device)
        trainer.train()
        return len(pairs.trees) / (clock(device) - began)


# --- Accord ----------------------------------------------------------------------------------------------------------


def fresh(precision: Precision = "auto") -> tuple[LoadedModel, nn.Module]:
    """Return the starter model and the same with new adapters."""
    loaded = load_model("starter", precision)
    torch.manual_seed(SEED)
    return loaded, add_lora(loaded, RANK, first_layer=0, alpha=ALPHA)


def time_accord(pairs: Pairs, device: torch.device) -> float:
    """Return pairs a second of one epoch: weights packed, reference and training, all inside the measured time."""
    _, model = fresh()
    AcceleratorState._reset_state(reset_partial_state=True)
    settings = TrainSettings(
        epochs=1, learning_rate=LEARNING_RATE, weight_decay=0.0, warmup=0.0, rows_per_step=PAIRS_PER_STEP, seed=SEED
    )
    states = FrozenStates(first_layer=0, entering={}, last={})
    with tempfile.TemporaryDirectory() as folder:
        began = clock(device)
        with packed(model):
            head = Projection(head_weight(model))
            with scaled(model, 0.0):
                ref_logps = answer_logps(model, pairs.trees, states, head, Silent(), "reference")
            fit(
                model,
                preference_task(pairs.trees, states, head, ref_logps, partial(dpo, beta=BETA)),
                settings,
                Path(folder),
                Silent(),
                "dpo",
            )
        return len(pairs.trees) / (clock(device) - began)


# --- The same losses -------------------------------------------------------------------------------------------------


def perturb(model: nn.Module) -> None:
    """Give every adapter the same random weights on either side: by name, from one generator."""
    generator = torch.Generator().manual_seed(SEED + 1)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                scale = 0.02 if "lora_B" in name else parameter.shape[1] ** -0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))


@torch.no_grad()
def accord_losses(model: nn.Module, pairs: Pairs, ref_logps: Tensor, head: Projection) -> Tensor:
    """Return Accord's loss of each pair, in order."""
    task = preference_task(pairs.trees, FrozenStates(0, {}, {}), head, ref_logps, partial(dpo, beta=BETA))
    losses = torch.zeros(len(pairs.trees))
    for rows in micro_batches(pairs.trees, range(len(pairs.trees)), TrainSettings().token_budget):
        (term,) = task.terms(model, rows, task.before_step(model, rows))
        losses[rows] = term.losses.loss_B.cpu()
    return losses


@torch.no_grad()
def trl_losses(trainer: Any, pairs: Pairs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return TRL's loss of each pair, in order, and the reference's log-probabilities [R, 2]: a batch of one pair each."""
    trainer.model.eval()
    losses, refs = [], []
    for row in ids_of(pairs.trees):
        batch = {name: tensor.to(device) for name, tensor in trainer.data_collator([row]).items()}
        losses.append(trainer.compute_loss(trainer.model, batch).item())
        refs.append([part.item() for part in trainer.compute_ref_log_probs(trainer.model, batch)])
    return torch.tensor(losses), torch.tensor(refs)


def compare_losses(
    pairs: Pairs, targets: Sequence[str], chat: ChatFormat, device: torch.device
) -> tuple[Agreement, str]:
    """Return how far apart the two sides' losses are, and where TRL's own token ids differ."""
    loaded, model = fresh("fp32")
    with tempfile.TemporaryDirectory() as output, packed(model):
        trainer = trl_trainer(loaded.folder, pairs, targets, tuned_setup(1, PAIRS_PER_STEP), output)
        tokenisation = describe_tokenisation(trainer, pairs, chat)
        head = Projection(head_weight(model))
        with scaled(model, 0.0):
            ref_logps = answer_logps(model, pairs.trees, FrozenStates(0, {}, {}), head, Silent(), "reference")
        peer_initial, peer_ref_logps = trl_losses(trainer, pairs, device)
        initial = accord_losses(model, pairs, ref_logps, head)
        perturb(model)
        perturb(trainer.model)
        peer_perturbed, _ = trl_losses(trainer, pairs, device)
        perturbed = accord_losses(model, pairs, ref_logps, head)
    agreement = Agreement(
        ref_logps=(ref_logps - peer_ref_logps).abs().max().item(),
        loss_initial=(initial - peer_initial).abs().max().item(),
        loss_perturbed=(perturbed - peer_perturbed).abs().max().item(),
        least_perturbed_loss=perturbed.min().item(),
        greatest_perturbed_loss=perturbed.max().item(),
    )
    return agreement, tokenisation


# --- The run ---------------------------------------------------------------------------------------------------------


def main() -> None:
    """Compare the losses, tune TRL, measure all sides in turn, print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="2 short pairs, once: shows that it runs, measures nothing"
    )
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=3, help="of Accord and of TRL tuned, in turn")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8], help="tried for TRL tuned")
    parser.add_argument("--emulated-pairs", type=int, default=8, help="for TRL's bf16 where the processor has none")
    options = parser.parse_args()
    folder = data_folder()
    max_length = MAX_LENGTH
    if options.quick:
        options.pairs, options.repetitions, options.batch_sizes, options.emulated_pairs = 2, 1, [1, 2], 1
        max_length = 80
    disable_progress_bars()
    hf_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning)  # TRL's use of transformers

    device = pick_device()
    loaded = load_model("starter")
    chat = ChatFormat(loaded.tokenizer)
    pairs = choose_pairs(folder, chat, options.pairs, max_length)
    flop = needed_flop(pairs.trees, loaded.model)
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    targets = sorted(add_lora(loaded, RANK, first_layer=0).peft_config["default"].target_modules)
    peak = MatrixPeak(loaded.model.dtype, device, seconds=0.2 if options.quick else 1.0)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}")
    say(f"matrix peak so far: {peak}")
    prompt_tokens = sum(len(t.prompt) for t in pairs.trees)
    answer_tokens = sum(t.length for t in pairs.trees) - prompt_tokens
    say(
        f"{options.pairs} pairs, {prompt_tokens} prompt and {answer_tokens} answer tokens, {flop / 1e9:.0f} GFLOP needed"
    )

    agreement, tokenisation = compare_losses(pairs, targets, chat, device)
    say(f"TRL's own token ids against those that both sides are given here: {tokenisation}")
    say(
        f"largest differences in fp32: reference logps {agreement.ref_logps:.2e}, loss at the initial weights "
        f"{agreement.loss_initial:.2e}, loss with one random adapter {agreement.loss_perturbed:.2e} (losses "
        f"{agreement.least_perturbed_loss:.3f} to {agreement.greatest_perturbed_loss:.3f})"
    )

    some = pairs.spread(min(options.pairs, max(options.batch_sizes)))
    emulated = not has_native_bf16(device)

    def rate_of(setup: Setup, on: Pairs = some) -> float:
        return time_trl(loaded.folder, on, targets, setup, device)

    def against(setup: Setup, on: Pairs, repetitions: int) -> Contest:
        ours, peer = partial(time_accord, on, device), partial(rate_of, setup, on)
        return contest(f"TRL {setup.name}", len(on.trees), ours, peer, repetitions, peak, "pairs/s")

    best, sweep = tune(rate_of, options.batch_sizes, PAIRS_PER_STEP, not emulated, "pairs/s")
    tuned = against(best, pairs, options.repetitions)
    others = [against(DEFAULTS_FP32, pairs, 1)] if emulated else []
    few = pairs.spread(min(options.emulated_pairs, options.pairs)) if emulated else pairs
    defaults = against(DEFAULTS, few, 1)

    ours = statistics.median(tuned.ours)
    share = ours * flop / options.pairs / peak.best
    say(f"matrix peak: {peak}; Accord reaches {share:.0%} of it on the work that is needed")
    for each in (tuned, *others, defaults):
        say(f"Accord is {each.ratio:.2f} x {each.name}")
    if emulated:
        say("this processor emulates bf16, so TRL's true defaults are slower than TRL need be")
    finish(
        {
            "work": f"DPO, LoRA r{RANK} on all layers, {options.pairs} hh-rlhf pairs, 1 epoch, reference included",
            "ours": ours,
            "peer": statistics.median(tuned.peer),
            "unit": "pairs/s",
            "ratio": tuned.ratio,
            "share_of_limit": share,
            "processor": processor(device),
            "quick": options.quick,
            "met": tuned.ratio >= LEAST_RATIO_TUNED
            and defaults.ratio >= LEAST_RATIO_DEFAULTS
            and max(agreement.loss_initial, agreement.loss_perturbed) <= MOST_LOSS_DIFFERENCE,
            "ratio_defaults": defaults.ratio,
            "ratio_defaults_fp32": others[0].ratio if others else None,
            "native_bf16": not emulated,
            "contests": [each.record() for each in (tuned, *others, defaults)],
            "sweep": sweep,
            "precision": dtype,
            "matrix_peak_gflops": {name: value / 1e9 for name, value in peak.flops.items()},
            "needed_gflop_per_pair": flop / options.pairs / 1e9,
            "largest_difference": asdict(agreement),
            "tokenisation": tokenisation,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        }
    )


if __name__ == "__main__":
    main()
