"""`accord train kto`: answers that are each marked good or bad, without pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.data.ratings import read_ratings
from accord.models.load import load_model, window
from accord.models.packed import packed
from accord.models.tree import Tree
from accord.objectives.kto import kto
from accord.recipes.reporting import machine_facts
from accord.recipes.retain import NO_RETAIN, Retain
from accord.recipes.saving import save_finished
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import (
    check_window,
    make_trainee,
    retaining,
    start_stage,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.train.mixture import Mixture
from accord.train.offline import fit
from accord.train.parallel import kept
from accord.train.preferences import Marked, answer_logps, mismatched_trees
from accord.train.states import NOTHING_FROZEN, freeze_states
from accord.types import Progress


def run_kto(
    data: Path,
    out: Path,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    settings: TrainingSettings,
    drop: bool,
    progress: Progress,
    retain: Retain = NO_RETAIN,
) -> dict[str, Any]:
    """Train on marked answers; the reference is the model that training starts from.

    Raises:
        DataError: rows that cannot be used, that do not fit the model's window, or that are all marked alike.
    """
    ratings = read_ratings(data, drop=drop)
    loaded = load_model(settings.model, settings.precision)
    trainee = make_trainee(loaded, settings)
    rendered = [trainee.chat.render(r.messages, r.answer) for r in ratings]
    trees = [Tree(r.prompt, (r.answer,)) for r in rendered]
    check_window(trees, loaded, [r.id for r in ratings])
    others = mismatched_trees(trees, window(loaded.model))
    retained = retain.read(trainee)
    options = {"beta": beta, "desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    asked = {**settings.asked(), "verb": "train kto", **options, **retain.asked(), "data": file_digest(data)}
    reference = f"the starting model, {settings.model}"
    stage = start_stage(out, asked, {**machine_facts(trainee), "reference": reference}, "kto", loaded)

    def train(folder: Path) -> Any:
        head = trainee.head
        with packed(trainee.model):
            states = freeze_states(trainee.model, trees, trainee.first_layer, [False] * len(trees), folder, progress)

            def reference() -> Tensor:
                own = answer_logps(trainee.model, trees, states, head, progress, "reference log-probabilities")
                said = "the same of other prompts' answers"
                other = answer_logps(trainee.model, others, NOTHING_FROZEN, head, progress, said)
                return torch.cat([own, other], 1)

            ref_R2 = kept(folder / "reference.safetensors", reference)
        part = Marked(
            head=head,
            desirable=torch.tensor([r.desirable for r in ratings]),
            ref_logps=ref_R2[:, 0],
            mismatched_trees=others,
            mismatched_ref_logps=ref_R2[:, 1],
            objective=partial(kto, beta=beta, desirable_weight=desirable_weight, undesirable_weight=undesirable_weight),
        )
        task = Mixture(trees, [0] * len(trees), (part,), states)
        task = retaining(trainee, retained, task, folder, progress)
        return fit(trainee.model, task, settings.dials(), folder, progress, "KTO")

    result = train_stage(trainee, stage, train)
    save_finished(trainee, stage, out / "model", settings.model, f"KTO on {len(ratings)} marked answers")
    return {
        "desirable": sum(r.desirable for r in ratings),
        "undesirable": sum(not r.desirable for r in ratings),
        "reference": reference,
        **retained.facts(),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "seconds": round(result.seconds, 1),
        "model": str(out / "model"),
    }
