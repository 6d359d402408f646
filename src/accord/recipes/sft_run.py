"""`accord train sft`: demonstrations and the retain term, as one run folder with one stage and a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accord.data.records import read_demonstrations
from accord.models.load import load_model
from accord.recipes.reporting import machine_facts
from accord.recipes.saving import save_finished
from accord.recipes.settings import AlignSettings
from accord.recipes.training import (
    demonstration_trees,
    make_trainee,
    start_stage,
    train_on_demonstrations,
    train_stage,
)
from accord.runs.atomic import file_digest
from accord.types import Progress


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
    stage = start_stage(out, asked, machine_facts(trainee), "sft", loaded)
    result = train_stage(
        trainee,
        stage,
        lambda folder: train_on_demonstrations(trainee, demonstrations, settings, folder, progress),
    )
    save_finished(trainee, stage, out / "model", settings.model, f"SFT on {len(demonstrations)} rows")
    return {
        "rows": len(demonstrations),
        "steps": len(result.steps),
        "skipped steps": result.skipped,
        "last loss": round(result.steps[-1].loss, 4),
        "seconds": round(result.seconds, 1),
        "model": str(out / "model"),
    }
