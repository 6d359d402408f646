"""Single training runs: `accord train sft` and `accord train dpo`, each a run folder with one stage and a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data.checks import read_comparisons
from accord.data.near_duplicates import nearest
from accord.data.records import read_demonstrations
from accord.errors import DataError
from accord.models.adapters import scaled
from accord.models.load import load_model, published_name
from accord.models.packed import packed
from accord.recipes.reporting import machine_facts
from accord.recipes.settings import AlignSettings
from accord.recipes.training import (
    check_window,
    demonstration_trees,
    make_trainee,
    pair_trees,
    save_model,
    train_on_demonstrations,
    train_on_pairs,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.runs.folder import open_run
from accord.stats import proportion
from accord.train.states import FrozenStates
from accord.train.tasks import all_pair_logps
from accord.types import Comparison, Estimate, Progress, Prompt


@dataclass(frozen=True, slots=True)
class DPOOutcome:
    """What a DPO run has to say: facts by name, and held-out preference accuracies by whose they are."""

    facts: Mapping[str, Any]
    accuracy: Mapping[str, Estimate]


def run_sft(data: Path, out: Path, settings: AlignSettings, progress: Progress) -> dict[str, Any]:
    """Train on demonstrations; write the model to `out/model`.

    Raises:
        DataError: rows that do not fit the model's window; nothing is written then.
    """
    demonstrations = read_demonstrations(data)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    demonstration_trees(loaded, trainee.chat, demonstrations, settings)
    asked = {**settings.asked(), "verb": "train sft", "data": file_digest(data)}
    run = open_run(out, asked, machine_facts(trainee))
    stage = run.stage("sft", {"model": loaded.fingerprint})
    result = train_stage(
        trainee,
        stage,
        lambda folder: train_on_demonstrations(trainee, demonstrations, settings, folder, progress),
    )
    save_model(
        trainee,
        out / "model",
        _card(settings, f"SFT on {len(demonstrations)} rows"),
        1.0,
        published_name(settings.model, loaded),
    )
    return {
        "rows": len(demonstrations),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "last loss": round(result.steps[-1].loss, 4),
        "seconds": round(result.seconds, 1),
        "model": str(out / "model"),
    }


def run_dpo(
    data: Path, dev: Path | None, out: Path, settings: AlignSettings, drop: bool, progress: Progress
) -> DPOOutcome:
    """Train on comparisons; measure preference accuracy on held-out ones.

    The reference is the model that training starts from. Held-out pairs whose prompt nearly equals a training prompt are left
    out and counted.

    Raises:
        DataError: rows that cannot be used (without `drop`), or that do not fit the model's window.
    """
    given = read_comparisons(data, drop=drop)
    held_out = read_comparisons(dev, drop=drop) if dev else None
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    trees = pair_trees(trainee.chat, given.comparisons)
    ids = [c.id for c in given.comparisons]
    check_window(trees, loaded, ids)
    asked = {**settings.asked(), "verb": "train dpo", "data": file_digest(data), "dev": file_digest(dev) if dev else ""}
    run = open_run(out, asked, {**machine_facts(trainee), "reference": f"the starting model, {settings.model}"})
    stage = run.stage("dpo", {"model": loaded.fingerprint})
    facts: dict[str, Any] = {"pairs": str(given.report), "reference": f"the starting model, {settings.model}"}
    before = after = None
    kept: list[Comparison] = []
    if held_out:
        kept = _unlike_training(held_out.comparisons, given.comparisons)
        facts["held-out pairs"] = (
            f"{held_out.report}, near-duplicates of training left out: {len(held_out.comparisons) - len(kept)}"
        )
        with scaled(trainee.model, 0.0):
            before = _logps(trainee, kept, progress, "held-out pairs, base model")
    result = train_stage(trainee, stage, lambda folder: train_on_pairs(trainee, trees, ids, settings, folder, progress))
    facts |= {"steps": len(result.steps), "skipped steps": result.skipped, "seconds": round(result.seconds, 1),
              "pairs/s": round(len(trees) * settings.dpo_epochs / result.seconds, 2)}  # fmt: skip
    if held_out:
        after = _logps(trainee, kept, progress, "held-out pairs, trained model")
    save_model(
        trainee,
        out / "model",
        _card(settings, f"DPO on {len(trees)} pairs"),
        1.0,
        published_name(settings.model, loaded),
    )
    facts["model"] = str(out / "model")
    accuracy: dict[str, Estimate] = {}
    if before is not None and after is not None:
        sizes = torch.tensor([[len(c.chosen), len(c.rejected)] for c in kept], dtype=torch.float32)
        accuracy = {
            "DPO (implicit reward)": preference_accuracy(after - before),
            "DPO (log-probability)": preference_accuracy(after),
            "base model (log-probability)": preference_accuracy(before),
            "longer answer preferred": preference_accuracy(sizes),
            "shorter answer preferred": preference_accuracy(-sizes),
        }
    return DPOOutcome(facts, accuracy)


def preference_accuracy(scores_R2: Tensor) -> Estimate:
    """Return how often the chosen answer scores higher. Ties decide nothing: they are counted apart. Shape [R, 2]."""
    margin = scores_R2[:, 0] - scores_R2[:, 1]
    ties = int((margin == 0).sum())
    return proportion(int((margin > 0).sum()), len(margin) - ties, {"tie": ties} if ties else {})


def _logps(trainee: Any, comparisons: Sequence[Comparison], progress: Progress, stage: str) -> Tensor:
    trees = pair_trees(trainee.chat, comparisons)
    check_window(trees, trainee.loaded, [c.id for c in comparisons])
    with packed(trainee.model):
        return all_pair_logps(trainee.model, trees, FrozenStates(0, {}, {}), trainee.head, progress, stage)


def _unlike_training(held_out: Sequence[Comparison], train: Sequence[Comparison]) -> list[Comparison]:
    alike = {d.a for d in nearest(_prompts(held_out, "verify"), _prompts(train, "train"))}
    kept = [c for c in held_out if c.id not in alike]
    if not kept:
        raise DataError(
            "every held-out pair's prompt nearly equals a training prompt: nothing independent is left to measure on"
        )
    return kept


def _prompts(comparisons: Sequence[Comparison], split: Any) -> list[Prompt]:
    return [Prompt(c.id, c.messages, "ordinary", c.clause, c.family, split) for c in comparisons]


def _card(settings: AlignSettings, what: str) -> str:
    return (
        f"---\nbase_model: {settings.model}\nlibrary_name: peft\ntags: [accord]\n---\n\n{what} with Accord. Its safety was not "
        "measured: `accord align` does that.\n"
    )
