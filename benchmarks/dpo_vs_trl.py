"""DPO with LoRA on real comparisons: Accord against TRL's DPOTrainer, in one process, on the same token ids.

Measured, interleaved: (a) TRL with its defaults, (b) TRL tuned in its favour (no gradient checkpointing, the best number
format and batch size found by a sweep, pairs sorted by length), (c) Accord's tree forward and loop. All take the same number
of optimiser steps of 8 pairs (but TRL at batch 16, where 16 make a step), adapt every linear map of every layer with rank 16,
and compute the reference's log-probabilities inside the measured time. Tokenising and loading are outside it on all sides.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import trl
from accelerate.state import AcceleratorState
from datasets import Dataset, disable_progress_bars
from machine import MatrixPeak, clock, data_folder, finish, paired_ratio, processor, say
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from accord.data import read_comparisons
from accord.models.adapters import add_lora, scaled
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, load_model
from accord.models.packed import Projection, packed
from accord.models.precision import Precision, has_native_bf16, pick_device
from accord.models.tree import Tree, decoder_of, head_weight, micro_batches
from accord.train.offline import TrainSettings, fit
from accord.train.states import FrozenStates
from accord.train.tasks import DPOTask, all_pair_logps
from accord.types import Comparison, Silent

SEED = 0
BETA = 0.1
RANK = ALPHA = 16
PAIRS_PER_STEP = 8  # TRL's default batch
MAX_LENGTH = 1024  # TRL's default; a longer pair would be cut there and not here
LEARNING_RATE = 1e-6  # TRL's default
PRECISION_BATCH = 4
LEAST_RATIO_DEFAULTS, LEAST_RATIO_TUNED, MOST_LOSS_DIFFERENCE = 4.0, 2.0, 1e-3


@dataclass(frozen=True, slots=True)
class Setup:
    """How TRL is run. `weights` is the dtype that the model is loaded in, `autocast` whether products run in bf16 anyway."""

    batch_size: int
    weights: str = "float32"
    autocast: bool = False
    defaults: bool = False

    def __str__(self) -> str:
        if self.defaults:
            return "defaults (bf16 autocast of fp32 weights, gradient checkpointing, batch 8)"
        return f"{self.weights} weights{' with bf16 autocast' if self.autocast else ''}, batch {self.batch_size}"


@dataclass(frozen=True, slots=True)
class Pairs:
    """The same pairs for both sides: conversations for TRL's own tokenisation, and the ids that both are given."""

    comparisons: tuple[Comparison, ...]
    trees: tuple[Tree, ...]

    def some(self, rows: Sequence[int]) -> Pairs:
        """Return the pairs of some rows, renumbered."""
        trees = tuple(Tree(n, self.trees[i].prompt, self.trees[i].answers) for n, i in enumerate(rows))
        return Pairs(tuple(self.comparisons[i] for i in rows), trees)

    def by_length(self) -> list[int]:
        """Return the rows, the longest first."""
        return sorted(
            range(len(self.trees)), key=lambda i: -max(map(len, self.trees[i].answers)) - len(self.trees[i].prompt)
        )


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest absolute differences between the two sides over all pairs, in fp32."""

    ref_logps: float
    loss_initial: float
    loss_perturbed: float
    least_perturbed_loss: float
    greatest_perturbed_loss: float


def choose_pairs(folder: Path, chat: ChatFormat, n_pairs: int) -> Pairs:
    """Return a fixed random choice of the usable pairs, in chat format."""
    usable: list[tuple[Comparison, tuple[int, ...], tuple[tuple[int, ...], ...]]] = []
    for name in ("dev", "train"):
        for comparison in read_comparisons(
            folder / "hh-rlhf" / f"harmless-base.{name}.jsonl.gz", drop=True
        ).comparisons:
            chosen = chat.render(comparison.messages, comparison.chosen)
            rejected = chat.render(comparison.messages, comparison.rejected)
            # One spare token: TRL's own tokenisation has a newline after the end of the turn.
            if len(chosen.prompt) + max(len(chosen.answer), len(rejected.answer)) < MAX_LENGTH:
                usable.append((comparison, chosen.prompt, (chosen.answer, rejected.answer)))
    picked = random.Random(SEED).sample(usable, n_pairs)
    trees = tuple(Tree(i, prompt, answers) for i, (_, prompt, answers) in enumerate(picked))
    return Pairs(tuple(comparison for comparison, _, _ in picked), trees)


def needed_flop(trees: Sequence[Tree], model: nn.Module) -> float:
    """Return the work that cannot be avoided for one pass over the pairs (see the module's docstring)."""
    layers = decoder_of(model).layers
    linear = sum(m.weight.numel() for m in layers.modules() if isinstance(m, nn.Linear))  # type: ignore[union-attr, operator]
    head = head_weight(model).numel()
    forward = sum(2 * linear * t.length + 2 * head * sum(map(len, t.answers)) for t in trees)
    return 3.0 * forward


# --- TRL -------------------------------------------------------------------------------------------------------------


def trl_trainer(folder: str, pairs: Pairs, targets: Sequence[str], setup: Setup, output: str) -> Any:
    """Return a trainer whose data set holds the pairs as TRL itself tokenises them."""
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # the state is global, and would keep the last run's precision
    common: dict[str, Any] = {
        "output_dir": output,
        "num_train_epochs": 1,
        "beta": BETA,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "use_cpu": not torch.cuda.is_available(),  # without it TRL's bf16 default is refused on a CPU
    }
    if not setup.defaults:
        common |= {
            "per_device_train_batch_size": setup.batch_size,
            "gradient_accumulation_steps": max(1, PAIRS_PER_STEP // setup.batch_size),
            "gradient_checkpointing": False,
            "bf16": setup.autocast,
            "train_sampling_strategy": "sequential",  # the pairs come sorted by length
            "model_init_kwargs": {"dtype": setup.weights, "attn_implementation": "sdpa"},
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
        args=DPOConfig(**common),
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
    if not setup.defaults:
        pairs = pairs.some(pairs.by_length())
    with tempfile.TemporaryDirectory() as output:
        trainer = trl_trainer(folder, pairs, targets, setup, output)
        trainer.train_dataset = Dataset.from_list(ids_of(pairs.trees))
        began = clock(device)
        trainer.train()
        return len(pairs.trees) / (clock(device) - began)


def tune_trl(
    folder: str, pairs: Pairs, targets: Sequence[str], batch_sizes: Sequence[int], device: torch.device
) -> tuple[Setup, dict[str, float]]:
    """Return TRL's best set-up and pairs a second of each that was tried; number formats first, then batch sizes."""
    formats = [("float32", False)]
    if has_native_bf16(device):
        formats += [("bfloat16", False), ("float32", True)]
    rates: dict[Setup, float] = {}

    def best() -> Setup:
        return max(rates, key=lambda setup: rates[setup])

    def try_(setup: Setup) -> None:
        if setup not in rates:
            rates[setup] = time_trl(folder, pairs, targets, setup, device)
            say(f"TRL, {len(pairs.trees)} pairs, {setup}: {rates[setup]:.4f} pairs/s")

    first = PRECISION_BATCH if PRECISION_BATCH in batch_sizes else batch_sizes[-1]
    for weights, autocast in formats:
        try_(Setup(first, weights, autocast))
    chosen = best()
    for size in batch_sizes:
        try_(Setup(size, chosen.weights, chosen.autocast))
    return best(), {str(setup): rate for setup, rate in rates.items()}


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
                ref_logps = all_pair_logps(model, pairs.trees, states, head, Silent(), "reference")
            fit(model, DPOTask(pairs.trees, ref_logps, states, head, BETA), settings, Path(folder), Silent(), "dpo")
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
    task = DPOTask(pairs.trees, ref_logps, FrozenStates(0, {}, {}), head, BETA)
    losses = torch.zeros(len(pairs.trees))
    for rows in micro_batches(pairs.trees, range(len(pairs.trees)), TrainSettings().token_budget):
        (term,) = task.terms(model, rows)
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
        trainer = trl_trainer(loaded.folder, pairs, targets, Setup(1), output)
        tokenisation = describe_tokenisation(trainer, pairs, chat)
        head = Projection(head_weight(model))
        with scaled(model, 0.0):
            ref_logps = all_pair_logps(model, pairs.trees, FrozenStates(0, {}, {}), head, Silent(), "reference")
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
    parser.add_argument("--quick", action="store_true", help="4 pairs, once: shows that it runs, measures nothing")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=3, help="of Accord and of TRL tuned, in turn")
    parser.add_argument("--default-repetitions", type=int, default=1, help="of TRL with its defaults, the slowest")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="tried for TRL tuned")
    options = parser.parse_args()
    folder = data_folder()
    if options.quick:
        options.pairs, options.repetitions, options.batch_sizes = 4, 1, [2, 4]
    disable_progress_bars()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

    device = pick_device()
    loaded = load_model("starter")
    chat = ChatFormat(loaded.tokenizer)
    flop = needed_flop(choose_pairs(folder, chat, options.pairs).trees, loaded.model)
    pairs = choose_pairs(folder, chat, options.pairs)
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    targets = sorted(
        {
            name.rsplit(".", 1)[-1]
            for name, m in decoder_of(loaded.model).layers.named_modules()
            if isinstance(m, nn.Linear)
        }  # type: ignore[union-attr, operator]
    )
    peak = MatrixPeak(loaded.model.dtype, device, seconds=0.2 if options.quick else 1.0)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}")
    say(f"matrix peak so far: {peak}")
    prompt_tokens = sum(len(t.prompt) for t in pairs.trees)
    answer_tokens = sum(t.length for t in pairs.trees) - prompt_tokens
    say(
        f"{len(pairs.trees)} pairs, {prompt_tokens} prompt and {answer_tokens} answer tokens, {flop / 1e9:.0f} GFLOP needed"
    )

    agreement, tokenisation = compare_losses(pairs, targets, chat, device)
    say(f"token ids, TRL's own against those that both sides are given: {tokenisation}")
    say(
        f"largest differences in fp32: reference logps {agreement.ref_logps:.2e}, loss at the initial weights "
        f"{agreement.loss_initial:.2e}, loss with one random adapter {agreement.loss_perturbed:.2e} (losses "
        f"{agreement.least_perturbed_loss:.3f} to {agreement.greatest_perturbed_loss:.3f})"
    )
    n_sweep = min(len(pairs.trees), max(options.batch_sizes))
    rows = pairs.by_length()
    tuned, sweep = tune_trl(
        loaded.folder, pairs.some(rows[:: len(rows) // n_sweep][:n_sweep]), targets, options.batch_sizes, device
    )
    say(f"TRL tuned: {tuned}")

    ours: list[float] = []
    peer: list[float] = []
    defaults: list[float] = []
    if options.quick:
        time_accord(pairs, device)  # the first use of each shape is slower; a full run is long enough not to care
    for repetition in range(options.repetitions):
        for side in ("accord", "tuned") if repetition % 2 == 0 else ("tuned", "accord"):
            if side == "accord":
                ours.append(time_accord(pairs, device))
                say(f"{repetition + 1}/{options.repetitions} Accord: {ours[-1]:.4f} pairs/s")
            else:
                peer.append(time_trl(loaded.folder, pairs, targets, tuned, device))
                say(f"{repetition + 1}/{options.repetitions} TRL tuned: {peer[-1]:.4f} pairs/s")
        if repetition < options.default_repetitions:
            defaults.append(time_trl(loaded.folder, pairs, targets, Setup(PAIRS_PER_STEP, defaults=True), device))
            say(f"{repetition + 1}/{options.default_repetitions} TRL defaults: {defaults[-1]:.4f} pairs/s")
        peak.measure()

    rate = statistics.median(ours)
    ratio, ratio_low, ratio_high = paired_ratio(ours, peer)
    ratio_defaults, _, _ = paired_ratio(ours[: len(defaults)], defaults)
    share = rate * flop / len(pairs.trees) / peak.best
    say(f"matrix peak: {peak}; Accord reaches {share:.0%} of it on the work that is needed")
    say(
        f"Accord is {ratio:.2f} x TRL tuned ({ratio_low:.2f} to {ratio_high:.2f}), {ratio_defaults:.2f} x TRL with its defaults"
    )
    finish(
        {
            "work": f"DPO, LoRA r{RANK} on all layers, {len(pairs.trees)} hh-rlhf pairs, 1 epoch, reference included",
            "ours": rate,
            "peer": statistics.median(peer),
            "unit": "pairs/s",
            "ratio": ratio,
            "share_of_limit": share,
            "processor": processor(device),
            "quick": options.quick,
            "met": ratio >= LEAST_RATIO_TUNED
            and ratio_defaults >= LEAST_RATIO_DEFAULTS
            and max(agreement.loss_initial, agreement.loss_perturbed) <= MOST_LOSS_DIFFERENCE,
            "ratio_range": [ratio_low, ratio_high],
            "peer_defaults": statistics.median(defaults),
            "ratio_defaults": ratio_defaults,
            "ours_runs": ours,
            "peer_runs": peer,
            "peer_defaults_runs": defaults,
            "peer_setup": str(tuned),
            "peer_sweep": sweep,
            "precision": dtype,
            "matrix_peak_gflops": {name: value / 1e9 for name, value in peak.flops.items()},
            "needed_gflop_per_pair": flop / len(pairs.trees) / 1e9,
            "largest_difference": asdict(agreement),
            "tokenisation": tokenisation,
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        }
    )


if __name__ == "__main__":
    main()
