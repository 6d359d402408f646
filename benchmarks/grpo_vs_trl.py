"""A GRPO step, rollout and update: Accord against TRL's GRPOTrainer, in one process, on the same prompts.

Both sides take the same steps: 8 hh-rlhf prompts, 8 answers each of at most 64 tokens at temperature 1, a reward that costs
nothing (a function of the text), one optimiser step on all of them, adapters of rank 16 on every linear map, no reference. TRL is
tuned in its favour: no gradient checkpointing, the best number format, batch size and cache of `generate` found by a sweep, no
logging; once it is run with its defaults, which take an optimiser step for every 8 answers. The answers are each side's own, so
that rates are in sampled tokens a second.

First the gradient of a step is compared, in fp32, on the same answers, advantages and changed adapters.

The limit is the sum of what a step cannot do without: prompts read once a group, then a pass a token of the longest answer, which
takes what its products or reading the weights takes, whichever is longer, then the update (`accord.models.work`). Matrix peak and
memory bandwidth are those of the same run.

Run: `python benchmarks/grpo_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import trl
from accelerate.state import AcceleratorState
from contest import (
    Setup,
    arguments,
    as_dataset,
    contests,
    formats,
    lora_config,
    parsed,
    quiet,
    trainer_options,
    tune,
    tuned_setup,
)
from grpo_update import MAX_NEW_TOKENS, Group, advantages_of, choose_groups
from hh_pairs import RANK, SEED
from limits import Machine, rollout_seconds
from machine import REPEATS, MatrixPeak, bandwidth, clock, data_folder, finish, processor, say
from parity import gradients_apart, our_gradient, perturb, taken
from torch import Tensor
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.precision import Precision, choose_dtype, has_native_bf16, pick_device
from accord.models.sampling import Sampling
from accord.models.tree import Tree
from accord.models.work import Sizes, extent_of, lengths_of, sizes_of, training_flop
from accord.objectives.grpo import grpo
from accord.recipes.online_run import learner_of, method_named
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import Trainee, make_trainee
from accord.scorers.as_reward import ByFunction, Weighted
from accord.train.collect import Asked, Judges
from accord.train.learner import OnlineSettings
from accord.train.logps import said_by
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.online import fit_online
from accord.train.sampled import Penalties, Reinforced, Weighed
from accord.train.samples import Sample, read_samples, step_file
from accord.train.states import NOTHING_FROZEN
from accord.types import Message, Prompt, Silent, Transcript

PROMPTS_PER_STEP, GROUP = 8, 8
LEARNING_RATE = 1e-6  # TRL's default
LEAST_RATIO, LEAST_SHARE = 3.0, 0.45
MOST_GRADIENT_DIFFERENCE = 1e-3
Ids = tuple[int, ...]


def vowels(text: str) -> float:
    """The reward: the share of vowels, which differs from answer to answer and costs nothing."""
    return sum(c in "aeiou" for c in text) / max(1, len(text))


def of_transcript(transcript: Transcript) -> float:
    """The reward as our side calls it."""
    return vowels(transcript.answer)


def trainee_of(precision: Precision) -> Trainee:
    """Return the starter under new adapters."""
    return make_trainee(load_model("starter", precision), TrainingSettings(rank=RANK, precision=precision))


def time_accord(prompts: Sequence[Ids], max_new_tokens: int, sampled: list[list[Sample]] | None = None) -> float:
    """Return sampled tokens a second of our steps; `sampled` is filled with each step's answers."""
    AcceleratorState._reset_state(reset_partial_state=True)
    trainee = trainee_of("auto")
    learner = learner_of(trainee, by_value=False)
    asked = [
        Asked(Prompt(str(i), (Message("user", str(i)),), "ordinary", "", str(i), "train"), ids)
        for i, ids in enumerate(prompts)
    ]
    n_steps = len(prompts) // min(PROMPTS_PER_STEP, len(prompts))
    settings = OnlineSettings(
        steps=n_steps,
        prompts_per_step=PROMPTS_PER_STEP,
        group=GROUP,
        prompts_per_update=PROMPTS_PER_STEP,
        sampling=Sampling(max_new_tokens, 1.0, SEED),
        penalties=Penalties(),
        loop=TrainSettings(learning_rate=LEARNING_RATE, weight_decay=0.0),
    )
    judges = Judges(Weighted(((1.0, ByFunction("vowels", of_transcript)),)))
    method = method_named("grpo", max_new_tokens, {})
    with tempfile.TemporaryDirectory() as folder:
        began = clock(trainee.loaded.device)
        fit_online(learner, method, judges, asked, settings, Path(folder), Silent())
        seconds = clock(trainee.loaded.device) - began
        steps = [read_samples(step_file(Path(folder), number)) for number in range(n_steps)]
    if sampled is not None:
        sampled[:] = steps
    return sum(len(s.ids) for step in steps for s in step) / seconds


class Counted:
    """The reward as TRL calls it, which counts what was sampled."""

    __name__ = "vowels"

    def __init__(self) -> None:
        self.n_tokens = 0

    def __call__(self, completions: Sequence[Any], completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        """Return each answer's reward."""
        self.n_tokens += sum(map(len, completion_ids))
        return [vowels(c if isinstance(c, str) else c[0]["content"]) for c in completions]


def trainer_of(
    folder: str, prompts: Sequence[str], targets: Sequence[str], setup: Setup, output: str, max_new_tokens: int
) -> tuple[Any, Counted]:
    """Return TRL's trainer of the same steps, and its reward."""
    reward = Counted()
    options = {
        **trainer_options(output),
        "learning_rate": LEARNING_RATE,
        "num_generations": GROUP,
        "max_completion_length": max_new_tokens,
        "loss_type": "grpo",
        "beta": 0.0,
        "top_k": 0,
        "shuffle_dataset": False,
        **setup.options,
    }
    trainer = GRPOTrainer(
        model=folder,
        reward_funcs=reward,
        args=GRPOConfig(**options),
        train_dataset=as_dataset([{"prompt": p} for p in prompts]),
        peft_config=lora_config(targets),
    )
    return trainer, reward


def time_trl(
    folder: str, prompts: Sequence[str], targets: Sequence[str], setup: Setup, device: torch.device, max_new_tokens: int
) -> float:
    """Return sampled tokens a second of TRL's steps."""
    with tempfile.TemporaryDirectory() as output:
        trainer, reward = trainer_of(folder, prompts, targets, setup, output, max_new_tokens)
        trainer.remove_callback(PrinterCallback)
        began = clock(device)
        trainer.train()
        return reward.n_tokens / (clock(device) - began)


def gradient_difference(groups: Sequence[Group], targets: Sequence[str], device: torch.device) -> float:
    """Return how far the gradients of a step are apart, relative to the largest element, with the same changed adapters."""
    trainee = trainee_of("fp32")
    model, head = trainee.model, trainee.head
    perturb(model)
    trees = [Tree(prompt, tuple(a.ids for a in answers)) for prompt, answers in groups]
    advantages = advantages_of(groups)
    with tempfile.TemporaryDirectory() as output, packed(model):
        said = said_by(model, trees, NOTHING_FROZEN, head)
        weighed = [Weighed(torch.cat(own), s.logps) for own, s in zip(advantages, said, strict=True)]
        task = Mixture(trees, [0] * len(trees), (Reinforced(trees, weighed, head, grpo, Penalties()),), NOTHING_FROZEN)
        ours = our_gradient(model, task, range(len(trees)))
        setup = tuned_setup(len(groups) * GROUP, rows_per_step=len(groups) * GROUP)
        trainer, _ = trainer_of(trainee.loaded.folder, ["a"] * len(groups), targets, setup, output, 8)
        perturb(trainer.model)
        trainer.model.eval()
        loss: Tensor = trainer._compute_loss(trainer.model, inputs_of(groups, advantages, device))
        loss.backward()
        return gradients_apart(ours, taken(trainer.model))


def inputs_of(groups: Sequence[Group], advantages: Sequence[Sequence[Tensor]], device: torch.device) -> dict[str, Any]:
    """Return answers as TRL's loss reads them: prompts padded on the left, answers on the right."""
    rows = [(prompt, a.ids) for prompt, answers in groups for a in answers]
    n_prompt, n_answer = (max(len(row[side]) for row in rows) for side in (0, 1))
    prompt_ids = [[0] * (n_prompt - len(p)) + list(p) for p, _ in rows]
    prompt_mask = [[0] * (n_prompt - len(p)) + [1] * len(p) for p, _ in rows]
    answer_ids = [list(a) + [0] * (n_answer - len(a)) for _, a in rows]
    answer_mask = [[1] * len(a) + [0] * (n_answer - len(a)) for _, a in rows]
    return {
        "prompt_ids": torch.tensor(prompt_ids, device=device),
        "prompt_mask": torch.tensor(prompt_mask, device=device),
        "completion_ids": torch.tensor(answer_ids, device=device),
        "completion_mask": torch.tensor(answer_mask, device=device),
        "advantages": torch.stack([one[0] for own in advantages for one in own]).to(device),
        "num_items_in_batch": torch.tensor(sum(map(sum, answer_mask)), device=device),
    }


def needed_seconds(sizes: Sizes, prompts: Sequence[Ids], step: Sequence[Sample], machine: Machine) -> float:
    """Return what a step needs at least: its rollout, and one pass over what was sampled."""
    by_prompt = [step[i : i + GROUP] for i in range(0, len(step), GROUP)]
    trees = [Tree(prompts[int(own[0].prompt)], tuple(s.ids for s in own)) for own in by_prompt]
    update = training_flop(sizes, extent_of(lengths_of(trees)), "lora")
    return rollout_seconds(sizes, trees, machine) + update / machine.flops


def main() -> None:
    """Compare the gradients, tune TRL, measure both sides in turn, print the result."""
    parser = arguments(__doc__, "prompts", 32)
    parser.set_defaults(batch_sizes=[8, 16, 32, 64])
    options = parsed(parser)
    if options.quick:
        options.batch_sizes = [16]
    quiet()
    device = pick_device()
    max_new_tokens = 8 if options.quick else MAX_NEW_TOKENS
    groups = choose_groups(data_folder(), options.rows, GROUP, 60 if options.quick else 512, max_new_tokens)
    prompts = [prompt for prompt, _ in groups]
    trainee = trainee_of("auto")
    targets = sorted(trainee.model.peft_config["default"].target_modules)  # type: ignore[index, union-attr]
    sizes, folder, dtype = sizes_of(trainee.model), trainee.loaded.folder, choose_dtype("auto", device)
    native = has_native_bf16(device)
    # TRL tokenises text: this is the prompts', whose ids come out as they went in.
    texts = [trainee.chat.decode(prompt) for prompt in prompts]
    tokenizer = trainee.loaded.tokenizer
    different = sum(
        tuple(tokenizer(t, add_special_tokens=False)["input_ids"]) != p for t, p in zip(texts, prompts, strict=True)
    )
    peak, read = MatrixPeak(dtype, device, repeats=1 if options.quick else REPEATS), bandwidth(device)
    say(f"{processor(device)}; torch {torch.__version__}, TRL {trl.__version__}, Accord in {dtype}")
    say(
        f"{len(prompts)} prompts ({different} of other ids in TRL); matrix peak so far: {peak}; memory {read / 1e9:.1f} GB/s"
    )
    difference = gradient_difference(groups[:2], targets, device)
    say(f"largest difference of a step's gradient in fp32: {difference:.1e} of its largest element")
    if not difference <= MOST_GRADIENT_DIFFERENCE:
        raise SystemExit("the two sides do not do the same work")

    per_step = min(PROMPTS_PER_STEP, len(prompts))
    time_accord(prompts[:per_step], max_new_tokens)  # a process's first batch compiles
    peer = partial(time_trl, folder, targets=targets, device=device, max_new_tokens=max_new_tokens)

    def stepped(setup: Setup) -> Setup:
        size = min(setup.options["per_device_train_batch_size"], per_step * GROUP)
        more = {"per_device_train_batch_size": size, "gradient_accumulation_steps": per_step * GROUP // size}
        return Setup(setup.name, {**setup.options, **more})

    few = texts[:per_step]
    best, sweep = tune(
        lambda setup: peer(few, setup=stepped(setup)), options.batch_sizes, formats(native, options.quick), "tokens/s"
    )
    static = Setup(f"{best.name}, static cache", {**best.options, "cache_implementation": "static"}, best.sort)
    sweep[static.name] = peer(few, setup=stepped(static))
    say(f"sweep, TRL, {static.name}: {sweep[static.name]:.4f} tokens/s")
    best = max((best, static), key=lambda setup: sweep[setup.name])
    steps: list[list[Sample]] = []
    tuned, defaults = contests(
        stepped(best),
        native,
        len(prompts),
        lambda: time_accord(prompts, max_new_tokens, steps),
        lambda setup: peer(texts, setup=setup),
        options.repetitions,
        peak,
        "tokens/s",
    )
    machine = Machine(peak.best, read, torch.empty((), dtype=dtype).element_size())
    limit = sum(needed_seconds(sizes, prompts, step, machine) for step in steps)
    n_tokens = sum(len(s.ids) for step in steps for s in step)
    ours = statistics.median(tuned.ours)
    share = ours * limit / n_tokens
    say(f"Accord is {tuned.ratio:.2f} x {tuned.name}, {defaults.ratio:.2f} x {defaults.name}")
    say(
        f"limit {n_tokens / limit:.0f} tokens/s: matrix peak {peak}, memory {read / 1e9:.1f} GB/s; Accord reaches {share:.1%}"
    )
    finish(
        {
            "work": f"GRPO, LoRA r{RANK}, steps of {per_step} prompts of {GROUP} answers of at most {max_new_tokens} tokens",
            "ours": ours,
            "peer": statistics.median(tuned.peer),
            "unit": "sampled tokens/s",
            "ratio": tuned.ratio,
            "ratio_defaults": defaults.ratio,
            "share_of_limit": share,
            "limit": n_tokens / limit,
            "processor": processor(device),
            "quick": options.quick,
            "met": tuned.ratio >= LEAST_RATIO and share >= LEAST_SHARE,
            "asked": {"ratio": LEAST_RATIO, "share_of_limit": LEAST_SHARE},
            "contests": [each.record() for each in (tuned, defaults)],
            "sweep": sweep,
            "largest_difference": difference,
            "memory_gb_s": read / 1e9,
            "matrix_peak_gflops": peak.gflops,
            "precision": str(dtype),
            "versions": {"torch": torch.__version__, "trl": trl.__version__},
        }
    )


if __name__ == "__main__":
    main()
