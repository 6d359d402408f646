"""`accord train reward`: a reward model, or a cost model, from what people said of answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.errors import ModelError, SettingsError
from accord.models.adapters import scaled
from accord.models.load import LoadedModel, load_model
from accord.models.packed import packed
from accord.models.precision import pick_device
from accord.models.projection import Projection
from accord.models.reward import reward_tokenizer, score_answers, score_head, with_score_head
from accord.models.tree import head_weight
from accord.recipes.held_out import HeldOut
from accord.recipes.ranked import Compared, Labelled, People, are_labelled
from accord.recipes.reporting import machine_facts
from accord.recipes.saving import save_finished
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    check_window,
    make_trainee,
    start_stage,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.train.offline import fit
from accord.train.parallel import kept
from accord.train.rewards import reward_task
from accord.train.states import freeze_states
from accord.types import Estimate, Progress


def run_reward(
    data: Path,
    dev: Path | None,
    out: Path,
    centring: float,
    margin: float,
    cost: bool,
    settings: TrainingSettings,
    drop: bool,
    progress: Progress,
) -> tuple[dict[str, Any], HeldOut | None]:
    """Train a model that scores answers; measure it on held-out ones.

    Comparisons with one `group_id` are one example. `margin` times a comparison's strength is by how much its better answer should
    lead. With `cost` the score is harm, and its zero the border between safe and unsafe; such a model also learns from answers that
    people called harmful or not (`accord.scorers.labels`), in `data` and `dev`.

    Raises:
        DataError: rows that cannot be used (without `drop`), that do not fit the model's window, or for `cost` have no labels.
        SettingsError: labelled answers without `cost` or with a margin, or `cost` with `centring`.
    """
    if cost and centring:
        raise SettingsError("--centring pulls scores to 0, where a cost model has its border; leave out one of the two")
    people: People = (
        Labelled(data, dev, margin, cost) if are_labelled(data) else Compared(data, dev, drop, margin, cost)
    )
    causal = load_model(settings.model, settings.precision)
    base_head = _base_head(causal, progress) if dev else None
    loaded = with_score_head(causal)
    trainee = make_trainee(loaded, settings)
    trees, rankings, ids = people.rows(trainee.chat)
    check_window(trees, loaded, ids)
    asked = {
        **settings.asked(),
        "verb": "train cost" if cost else "train reward",
        "centring": centring,
        "margin": margin,
        "data": file_digest(data),
        "dev": file_digest(dev) if dev else "",
    }
    stage = start_stage(out, asked, machine_facts(trainee), "reward", loaded)
    facts: dict[str, Any] = {**people.said, "prompts": len(trees)}
    held = people.held_rows(trainee.chat)
    check_window(held.trees, loaded, held.ids)
    beside: Mapping[str, Estimate] = {}
    if held.trees and base_head is not None:
        with packed(trainee.model), scaled(trainee.model, 0.0):
            beside = people.beside(trainee.model, held.trees, base_head, progress, stage.folder)

    def train(folder: Path) -> Any:
        with packed(trainee.model):
            states = freeze_states(trainee.model, trees, trainee.first_layer, [False] * len(trees), folder, progress)
        task = reward_task(trees, rankings, states, score_head(trainee.model), centring)
        return fit(trainee.model, task, settings.dials(), folder, progress, "cost" if cost else "reward")

    result = train_stage(trainee, stage, train)
    facts |= {
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "seconds": round(result.seconds, 1),
        "prompts/s": round(len(trees) * settings.epochs / result.seconds, 2),
    }
    save_finished(
        trainee,
        stage,
        out / "model",
        settings.model,
        f"{'Cost' if cost else 'Reward'} model from {people.what}",
        reward_tokenizer(loaded.model, loaded.tokenizer),
    )
    facts["model"] = str(out / "model")
    if not held.trees:
        return facts, None
    with packed(trainee.model):
        scores = kept(stage.folder / "held-out-scores.safetensors", lambda: score_answers(trainee.model, held.trees))
    return facts, people.measured(held, scores, beside)


def _base_head(causal: LoadedModel, progress: Progress) -> Projection | None:
    """Return the language-model head by which the base model ranks held-out answers, where it can; a reward model needs none."""
    try:
        return Projection(head_weight(causal.model).to(pick_device()))
    except ModelError as error:
        progress.say(f"the base model's own ranking is left out: {error}")
        return None
