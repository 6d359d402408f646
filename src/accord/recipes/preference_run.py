"""`accord train dpo` and every other objective on pairs: one run folder, one stage, one model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data.checks import read_comparisons
from accord.models.adapters import scaled
from accord.models.load import load_model
from accord.models.packed import packed
from accord.models.tree import Tree
from accord.objectives.pairs import Pairs
from accord.recipes.held_out import HeldOut, measure, preference_accuracy, read_held_out
from accord.recipes.reporting import machine_facts
from accord.recipes.retain import NO_RETAIN, Retain
from accord.recipes.saving import save_finished
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    PairObjective,
    Trainee,
    check_window,
    make_trainee,
    pair_objective,
    pair_trees,
    start_stage,
    train_on_pairs,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.train.preferences import answer_logps
from accord.train.states import NOTHING_FROZEN
from accord.types import Progress


def run_preferences(
    data: Path,
    dev: Path | None,
    out: Path,
    name: str,
    options: Mapping[str, float],
    settings: TrainingSettings,
    drop: bool,
    progress: Progress,
    retain: Retain = NO_RETAIN,
) -> tuple[dict[str, Any], HeldOut | None]:
    """Train on comparisons by an objective on pairs; measure preference accuracy on held-out ones.

    The reference is the model that training starts from. Held-out pairs whose prompt nearly equals a training prompt are left
    out and counted.

    Raises:
        DataError: rows that cannot be used (without `drop`), or that do not fit the model's window.
    """
    objective = pair_objective(name, **options)
    given = read_comparisons(data, drop=drop)
    kept, said = read_held_out(dev, given.comparisons, drop)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    trees = pair_trees(trainee.chat, given.comparisons)
    ids = [c.id for c in given.comparisons]
    check_window(trees, loaded, ids)
    retained = retain.read(trainee)
    asked = {
        **settings.asked(),
        "verb": f"train {name}",
        **options,
        **retain.asked(),
        "data": file_digest(data),
        "dev": file_digest(dev) if dev else "",
    }
    reference = f"the starting model, {settings.model}"
    stage = start_stage(out, asked, {**machine_facts(trainee), "reference": reference}, name, loaded)
    facts: dict[str, Any] = {"pairs": str(given.report), "reference": reference, **said}
    held_trees = pair_trees(trainee.chat, kept)
    check_window(held_trees, loaded, [c.id for c in kept])
    before = None
    if kept:
        with scaled(trainee.model, 0.0):
            before = _logps(trainee, held_trees, progress, "held-out pairs, base model")
    preferences = [c.preference for c in given.comparisons]
    n_rated = sum(q is not None for q in preferences)
    if n_rated and not objective.uses_preference:
        progress.say(
            f"{n_rated} of {len(preferences)} rows say how probable their preference is; of the objectives on pairs soft-dpo alone "
            f"uses that, and {name.replace('_', '-')} does not"
        )
    preference = torch.tensor([math.nan if q is None else q for q in preferences])
    result = train_stage(
        trainee,
        stage,
        lambda folder: train_on_pairs(
            trainee,
            trees,
            objective,
            settings.dials(),
            folder,
            progress,
            preference if objective.uses_preference else None,
            retained,
        ),
    )
    facts |= {
        **retained.facts(),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "seconds": round(result.seconds, 1),
        "pairs/s": round(len(trees) * settings.epochs / result.seconds, 2),
    }
    after = _logps(trainee, held_trees, progress, "held-out pairs, trained model") if kept else None
    save_finished(trainee, stage, out / "model", settings.model, f"{name} on {len(trees)} pairs")
    facts["model"] = str(out / "model")
    if before is None or after is None:
        return facts, None
    beside = {
        f"{name} (log-probability)": preference_accuracy(after),
        "base model (log-probability)": preference_accuracy(before),
    }
    rewards = implicit_rewards(objective, held_trees, after, before)
    # Of these objectives only DPO itself takes its implicit reward for a preference's logit.
    return facts, measure(kept, rewards, beside, f"{name} (implicit reward)", are_logits=name == "dpo")


def implicit_rewards(objective: PairObjective, trees: Sequence[Tree], logps_R2: Tensor, ref_logps_R2: Tensor) -> Tensor:
    """Return the reward that the objective itself gives each answer: with or without a reference, a token or a whole answer.

    `logps_R2` are the trained model's, `ref_logps_R2` those of the model that training started from. Shape [R, 2].
    """
    lengths_R2 = torch.tensor([[len(a) for a in t.answers] for t in trees])
    columns = (x_R for x_R2 in (logps_R2, lengths_R2, ref_logps_R2) for x_R in x_R2.unbind(1))
    told = objective.loss(Pairs(*columns)).metrics
    return torch.stack([told["chosen_reward"], told["rejected_reward"]], 1)


def _logps(trainee: Trainee, trees: Sequence[Tree], progress: Progress, stage: str) -> Tensor:
    with packed(trainee.model):
        return answer_logps(trainee.model, trees, NOTHING_FROZEN, trainee.head, progress, stage)
