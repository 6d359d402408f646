"""`accord train sft` on plain conversations: instruction tuning, the last answer of each one learned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data.examples import Example, read_examples
from accord.data.jsonl import refuse
from accord.models.adapters import scaled
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.tree import Tree
from accord.recipes.held_out import unlike_training
from accord.recipes.reporting import machine_facts
from accord.recipes.retain import NO_RETAIN, Retain
from accord.recipes.saving import save_finished
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    Trainee,
    check_window,
    make_trainee,
    retaining,
    start_stage,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.stats import mean
from accord.train.imitation import Learned
from accord.train.mixture import Mixture
from accord.train.offline import fit
from accord.train.preferences import answer_logps
from accord.train.states import NOTHING_FROZEN, freeze_states
from accord.types import Estimate, Progress


def run_conversations(
    data: Path,
    dev: Path | None,
    out: Path,
    settings: TrainingSettings,
    progress: Progress,
    retain: Retain = NO_RETAIN,
) -> tuple[dict[str, Any], dict[str, Estimate]]:
    """Learn the last answer of every conversation, its tokens alone; return the facts, and what held-out answers cost.

    That is the negative log-likelihood a token of each held-out conversation's answer, before and after, in nats: means over
    conversations. Those whose prompt nearly equals a training prompt are left out and counted.

    Raises:
        DataError: rows that cannot be used, that do not fit the model's window, or no held-out one is unlike training.
    """
    examples = _read(data)
    held_out, said = _read_held_out(dev, examples)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    trees, held_trees = (_trees(trainee.chat, rows) for rows in (examples, held_out))
    for rows, own in ((trees, examples), (held_trees, held_out)):
        check_window(rows, loaded, [e.id for e in own])
    retained = retain.read(trainee)
    asked = {
        **settings.asked(),
        **retain.asked(),
        "verb": "train sft",
        "data": file_digest(data),
        "dev": file_digest(dev) if dev else "",
    }
    stage = start_stage(out, asked, machine_facts(trainee), "sft", loaded)
    costs: dict[str, Estimate] = {}
    if held_trees:
        with scaled(trainee.model, 0.0):
            costs["base model"] = _cost(trainee, held_trees, progress, "held-out conversations, base model")

    def train(folder: Path) -> Any:
        with packed(trainee.model):
            states = freeze_states(trainee.model, trees, trainee.first_layer, [False] * len(trees), folder, progress)
        task = Mixture(trees, [0] * len(trees), (Learned(trees, trainee.head),), states)
        task = retaining(trainee, retained, task, folder, progress)
        return fit(trainee.model, task, settings.dials(), folder, progress, "SFT")

    result = train_stage(trainee, stage, train)
    if held_trees:
        costs["sft"] = _cost(trainee, held_trees, progress, "held-out conversations, trained model")
    save_finished(trainee, stage, out / "model", settings.model, f"SFT on {len(trees)} conversations")
    n_tokens = sum(t.length for t in trees)
    return {
        "conversations": len(trees),
        **said,
        **retained.facts(),
        "tokens": n_tokens,
        "supervised tokens": sum(len(t.answers[0]) for t in trees),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "last loss": round(result.steps[-1].loss, 4),
        "seconds": round(result.seconds, 1),
        "tokens/s": round(n_tokens * settings.epochs / result.seconds),
        "model": str(out / "model"),
    }, costs


def _read(path: Path) -> tuple[Example, ...]:
    file = read_examples(path)
    refuse(path, [(u.line, u.message) for u in file.unusable])
    return file.examples


def _read_held_out(dev: Path | None, train: Sequence[Example]) -> tuple[list[Example], dict[str, str]]:
    if dev is None:
        return [], {}
    given = _read(dev)
    kept = unlike_training(given, train, "conversation")
    left_out = len(given) - len(kept)
    return kept, {"held-out conversations": f"{len(kept)}, near-duplicates of training left out: {left_out}"}


def _trees(chat: ChatFormat, examples: Sequence[Example]) -> list[Tree]:
    rendered = [chat.render(e.messages, e.answers[0]) for e in examples]
    return [Tree(r.prompt, (r.answer,)) for r in rendered]


def _cost(trainee: Trainee, trees: list[Tree], progress: Progress, stage: str) -> Estimate:
    with packed(trainee.model):
        logps_R1: Tensor = answer_logps(trainee.model, trees, NOTHING_FROZEN, trainee.head, progress, stage)
    lengths = torch.tensor([len(t.answers[0]) for t in trees])
    return mean((-logps_R1[:, 0] / lengths).tolist())
