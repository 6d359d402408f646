"""`accord train sft|dpo`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from accord.cli.options import FirstLayer, Method, Model, PrecisionName, Rank, Seed


def train_sft(
    data: Path = typer.Argument(..., help="Demonstrations (JSONL)."),
    out: Path = typer.Option(..., help="The run's folder."),
    model: Model = "starter",
    method: Method = "lora",
    epochs: int = typer.Option(None, min=1, help="Passes over the rows."),
    learning_rate: float = typer.Option(None, min=1e-12, help="The highest step size."),
    retain: float = typer.Option(None, help="Weight of staying with the base model on prompts that are not harmful."),
    rank: Rank = 8,
    first_layer: FirstLayer = -1,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    json_: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Train on demonstrations, with the retain term on prompts that are not harmful."""
    from accord.cli.progress import make_progress
    from accord.recipes.settings import AlignSettings
    from accord.recipes.training_runs import run_sft

    given = {"sft_epochs": epochs, "sft_learning_rate": learning_rate, "retain": retain}
    settings = AlignSettings(
        model=model, method=method, precision=precision, first_layer=first_layer, rank=rank, seed=seed,  # type: ignore[arg-type]
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )  # fmt: skip
    result = run_sft(data, out, settings, make_progress())
    print(json.dumps(result) if json_ else "\n".join(f"{k}: {v}" for k, v in result.items()))


def train_dpo(
    data: Path = typer.Argument(
        ..., help="Comparisons: prompt/chosen/rejected, TRL's formats, or hh-rlhf text; .gz too."
    ),
    out: Path = typer.Option(..., help="The run's folder."),
    dev: Path = typer.Option(None, help="Held-out comparisons to measure preference accuracy on."),
    model: Model = "starter",
    method: Method = "lora",
    epochs: int = typer.Option(1, min=1, help="Passes over the pairs."),
    learning_rate: float = typer.Option(2e-4, min=1e-12, help="The highest step size."),
    beta: float = typer.Option(0.1, min=1e-6, help="How closely the reference is kept."),
    rank: Rank = 16,
    first_layer: FirstLayer = 0,
    drop: bool = typer.Option(
        False, help="Leave out pairs that cannot be used, and count them, instead of refusing the file."
    ),
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    json_: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Train on comparisons by DPO; with --dev, print held-out accuracy beside the base model's and a length-only rule's."""
    from accord.cli.progress import make_progress
    from accord.recipes.settings import AlignSettings
    from accord.recipes.training_runs import run_dpo

    settings = AlignSettings(
        model=model, method=method, precision=precision, first_layer=first_layer, rank=rank, seed=seed,  # type: ignore[arg-type]
        dpo_epochs=epochs, dpo_learning_rate=learning_rate, dpo_beta=beta,
    )  # fmt: skip
    result = run_dpo(data, dev, out, settings, drop, make_progress())
    if json_:
        print(json.dumps({**result.facts, "accuracy": {k: asdict(v) for k, v in result.accuracy.items()}}))
        return
    for name, fact in result.facts.items():
        print(f"{name}: {fact}")
    for name, e in result.accuracy.items():
        if e.value is None:
            print(f"held-out preference accuracy, {name}: not measured ({e.method})")
        else:
            print(f"held-out preference accuracy, {name}: {e.value:.1%} [{e.low:.1%}, {e.high:.1%}] "
                  f"(n={e.n}, {e.n_unscored} ties; {e.method})")  # fmt: skip


COMMANDS = (train_sft, train_dpo)
