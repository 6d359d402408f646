"""The same mathematics: 50 optimiser steps of DPO, IPO, KTO, SimPO and a reward model, in Accord and in TRL, loss by loss.

Both sides start from the same small random Llama (the starter's tokenizer, fp32, all weights trained), take the same rows of
hh-rlhf as the same token ids in the same order, 8 a step, with AdamW and the same learning rate at each step, and clip the
gradient at 1. What is compared is each step's loss; from the second step on it depends on every gradient before it.

KTO's answers to other prompts are TRL's here (the answer of the step's row before), to compare the loss and not the choice.

Run: `python benchmarks/objectives_vs_trl.py [--quick]`; the environment's ACCORD_TEST_DATA names the data folder.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from contest import TEXT, as_dataset, quiet, trainer_options
from hh_pairs import ROWS_PER_STEP, SEED
from machine import data_folder, finish, processor, say
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
)
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

from accord.data import read_comparisons
from accord.models.chat import ChatFormat
from accord.models.load import load_model, load_tokenizer
from accord.models.reward import reward_tokenizer, score_head, with_score_head
from accord.models.tree import Tree, head_weight
from accord.objectives.dpo import dpo
from accord.objectives.ipo import ipo
from accord.objectives.simpo import simpo
from accord.train.batches import steps_of_epoch
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings, fit, schedule
from accord.train.preferences import Marked, answer_logps, preference_task
from accord.train.rewards import Ranking, reward_task
from accord.train.states import FrozenStates
from accord.types import Silent

BETA, GAMMA = 0.1, 0.5
MAX_TOKENS = 200
MOST_DIFFERENCE = 1e-4
PLAIN = FrozenStates(0, {}, {})
Losses = list[float]


def small_model(folder: Path) -> Path:
    """Write the small Llama and its tokenizer; return the folder."""
    tokenizer = load_tokenizer("starter")
    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.1,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def choose_pairs(data: Path, chat: ChatFormat, n: int) -> list[Tree]:
    """Return the first n short pairs of hh-rlhf."""
    trees: list[Tree] = []
    for c in read_comparisons(data / "hh-rlhf" / "harmless-base.train.jsonl.gz", drop=True).comparisons:
        chosen, rejected = (chat.render(c.messages, text) for text in (c.chosen, c.rejected))
        tree = Tree(chosen.prompt, (chosen.answer, rejected.answer))
        if tree.length < MAX_TOKENS:
            trees.append(tree)
        if len(trees) == n:
            return trees
    raise SystemExit(f"only {len(trees)} pairs are short enough")


# --- Accord ----------------------------------------------------------------------------------------------------------


def dials(learning_rate: float) -> TrainSettings:
    """Return the loop's dials."""
    return TrainSettings(1, learning_rate, weight_decay=0.0, warmup=0.0, rows_per_step=ROWS_PER_STEP, seed=SEED)


def fitted(model: Any, task: Mixture, learning_rate: float) -> Losses:
    """Train, and return each step's loss."""
    with tempfile.TemporaryDirectory() as folder:
        result = fit(model, task, dials(learning_rate), Path(folder), Silent(), "accord")
    return [step.loss for step in result.steps]


def on_pairs(folder: Path, trees: Sequence[Tree], learning_rate: float, objective: Callable[..., Any]) -> Losses:
    """Train by an objective on pairs."""
    model = load_model(str(folder), "fp32").model.requires_grad_(True)
    ref_logps = answer_logps(model, trees, PLAIN, head_weight(model).detach())
    return fitted(model, preference_task(trees, PLAIN, head_weight(model), ref_logps, objective), learning_rate)


def on_marks(folder: Path, trees: Sequence[Tree], learning_rate: float) -> Losses:
    """Train by KTO: the chosen answer of every other pair, the rejected one of the rest."""
    model = load_model(str(folder), "fp32").model.requires_grad_(True)
    rows, others, desirable = marked(trees)
    head = head_weight(model)
    ref_R, other_R = (answer_logps(model, each, PLAIN, head.detach())[:, 0] for each in (rows, others))
    part = Marked(head, torch.tensor(desirable), ref_R, others, other_R)
    return fitted(model, Mixture(rows, [0] * len(rows), (part,), PLAIN), learning_rate)


def on_scores(folder: Path, trees: Sequence[Tree], learning_rate: float, head: Tensor) -> Losses:
    """Train a reward model."""
    model = with_score_head(load_model(str(folder), "fp32")).model
    with torch.no_grad():
        score_head(model).weight.copy_(head)
    model.requires_grad_(True)
    task = reward_task(trees, [Ranking(((0, 1),))] * len(trees), PLAIN, score_head(model))
    return fitted(model, task, learning_rate)


def marked(trees: Sequence[Tree]) -> tuple[list[Tree], list[Tree], list[bool]]:
    """Return marked rows, the same prompts with the answer of the step's row before, and the marks."""
    desirable = [i % 2 == 0 for i in range(len(trees))]
    rows = [Tree(t.prompt, (t.answers[0 if good else 1],)) for t, good in zip(trees, desirable, strict=True)]
    others = list(rows)
    for step in order_of(len(trees)):
        for before, i in zip([step[-1], *step[:-1]], step, strict=True):
            others[i] = Tree(rows[i].prompt, rows[before].answers)
    return rows, others, desirable


def order_of(n: int) -> list[list[int]]:
    """Return the rows of each step, as `fit` takes them."""
    return steps_of_epoch([[i] for i in range(n)], ROWS_PER_STEP, SEED, 0)


# --- TRL -------------------------------------------------------------------------------------------------------------


def trained(trainer: Any, rows: Sequence[Mapping[str, Any]], model: Any, learning_rate: float) -> Losses:
    """Give a trainer the rows in Accord's order, train, and return each step's loss."""
    order = [i for step in order_of(len(rows)) for i in step]
    trainer.remove_callback(PrinterCallback)
    trainer.train_dataset = as_dataset([rows[i] for i in order])
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)
    n_steps = len(order) // ROWS_PER_STEP
    trainer.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda s: schedule(s, n_steps, 0.0))
    losses: Losses = []
    compute = trainer.compute_loss

    def recorded(*args: Any, **more: Any) -> Any:
        loss = compute(*args, **more)
        losses.append(float((loss[0] if isinstance(loss, tuple) else loss).detach()))
        return loss

    trainer.compute_loss = recorded
    trainer.train()
    return losses


def options(output: str) -> dict[str, Any]:
    """Return what all TRL configurations share: all weights, fp32, the same step and clipping as Accord's."""
    return {
        **trainer_options(output),
        "per_device_train_batch_size": ROWS_PER_STEP,
        "bf16": False,
        "gradient_checkpointing": False,
        "max_grad_norm": 1.0,
        "use_cpu": True,
    }


def trl_pairs(folder: Path, trees: Sequence[Tree], learning_rate: float, loss_type: str) -> Losses:
    """DPO's and IPO's losses."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as output:
        config = DPOConfig(**options(output), beta=BETA, loss_type=[loss_type])
        trainer = DPOTrainer(model=model, args=config, train_dataset=as_dataset([TEXT] * 8))
        rows = [
            {"prompt_ids": list(t.prompt), "chosen_ids": list(t.answers[0]), "rejected_ids": list(t.answers[1])}
            for t in trees
        ]
        return trained(trainer, rows, model, learning_rate)


def trl_marks(folder: Path, trees: Sequence[Tree], learning_rate: float) -> Losses:
    """KTO's losses."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows, others, desirable = marked(trees)
    text = {"prompt": TEXT["prompt"], "completion": TEXT["chosen"], "label": True}
    with tempfile.TemporaryDirectory() as output:
        config = KTOConfig(**options(output), beta=BETA)
        texts = as_dataset([text, {**text, "label": False}] * 4)
        trainer = KTOTrainer(model=model, args=config, train_dataset=texts)
        table = [
            {
                "prompt_ids": list(r.prompt),
                "completion_ids": list(r.answers[0]),
                "KL_completion_ids": list(o.answers[0]),
                "label": good,
            }
            for r, o, good in zip(rows, others, desirable, strict=True)
        ]
        return trained(trainer, table, model, learning_rate)


def trl_simpo(folder: Path, trees: Sequence[Tree], learning_rate: float) -> Losses:
    """SimPO's losses."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def side(t: Tree, k: int) -> dict[str, list[int]]:
        ids = [*t.prompt, *t.answers[k]]
        name = ("chosen", "rejected")[k]
        return {
            f"{name}_input_ids": ids,
            f"{name}_attention_mask": [1] * len(ids),
            f"{name}_labels": [-100] * len(t.prompt) + list(t.answers[k]),
        }

    with tempfile.TemporaryDirectory() as output:
        config = CPOConfig(**options(output), beta=2.0, loss_type="simpo", cpo_alpha=0.0, simpo_gamma=GAMMA)
        trainer = CPOTrainer(model=model, args=config, train_dataset=as_dataset([TEXT] * 8), processing_class=tokenizer)
        rows = [
            {
                "prompt_input_ids": list(t.prompt),
                "prompt_attention_mask": [1] * len(t.prompt),
                **side(t, 0),
                **side(t, 1),
            }
            for t in trees
        ]
        return trained(trainer, rows, model, learning_rate)


def trl_scores(folder: Path, trees: Sequence[Tree], learning_rate: float, head: Tensor) -> Losses:
    """A reward model's losses."""
    ours = with_score_head(load_model(str(folder), "fp32"))
    with tempfile.TemporaryDirectory() as output:
        place = Path(output) / "reward"
        ours.model.save_pretrained(place)
        tokenizer = reward_tokenizer(ours.model, ours.tokenizer)
        tokenizer.save_pretrained(place)
        model: Any = AutoModelForSequenceClassification.from_pretrained(place, num_labels=1, dtype=torch.float32)
        with torch.no_grad():
            model.score.weight.copy_(head)
        config = RewardConfig(**options(output))
        trainer = RewardTrainer(
            model=model, args=config, train_dataset=as_dataset([TEXT] * 8), processing_class=tokenizer
        )
        rows = [{f"{n}_ids": [*t.prompt, *t.answers[k]] for k, n in enumerate(("chosen", "rejected"))} for t in trees]
        return trained(trainer, rows, model, learning_rate)


def main() -> None:
    """Train both sides by each objective, and print the largest difference of a step's loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2 steps each: shows that it runs")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    asked = parser.parse_args()
    quiet()
    steps, rate = (2 if asked.quick else asked.steps), asked.learning_rate
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = small_model(Path(scratch) / "model")
        trees = choose_pairs(data_folder(), ChatFormat(load_tokenizer("starter")), steps * ROWS_PER_STEP)
        head = 0.1 * torch.randn(1, 64, generator=torch.Generator().manual_seed(SEED))
        contests: dict[str, tuple[Callable[[], Losses], Callable[[], Losses]]] = {
            "dpo": (
                lambda: on_pairs(folder, trees, rate, partial(dpo, beta=BETA)),
                lambda: trl_pairs(folder, trees, rate, "sigmoid"),
            ),
            "ipo": (
                lambda: on_pairs(folder, trees, rate, partial(ipo, beta=BETA)),
                lambda: trl_pairs(folder, trees, rate, "ipo"),
            ),
            "kto": (lambda: on_marks(folder, trees, rate), lambda: trl_marks(folder, trees, rate)),
            "simpo": (
                lambda: on_pairs(folder, trees, rate, partial(simpo, beta=2.0, gamma=GAMMA)),
                lambda: trl_simpo(folder, trees, rate),
            ),
            "reward": (
                lambda: on_scores(folder, trees, rate, head),
                lambda: trl_scores(folder, trees, rate, head),
            ),
        }
        for name, (ours, theirs) in contests.items():
            a, b = ours(), theirs()
            if len(a) != len(b):
                raise SystemExit(f"{name}: {len(a)} steps in Accord, {len(b)} in TRL")
            difference = max(abs(x - y) for x, y in zip(a, b, strict=True))
            found[name] = {"largest_difference": difference, "first_loss": a[0], "last_loss": a[-1], "steps": len(a)}
            say(f"{name}: {len(a)} steps, loss {a[0]:.4f} to {a[-1]:.4f}, largest difference {difference:.1e}")
    finish(
        {
            "work": f"{steps} optimiser steps of 8 hh-rlhf rows by each objective, all weights, fp32",
            "ours": max(each["largest_difference"] for each in found.values()),
            "peer": 0.0,
            "unit": "largest difference of a step's loss",
            "ratio": None,
            "share_of_limit": None,
            "processor": processor(torch.device("cpu")),
            "quick": asked.quick,
            "met": all(each["largest_difference"] <= MOST_DIFFERENCE for each in found.values()),
            "objectives": found,
        }
    )


if __name__ == "__main__":
    main()
