"""`accord align`: one model through one round."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from accord.cli.options import LAYERS_HELP, Method, Model, PrecisionName, Seed, Track, existing

RUNS = Path("runs")
# What each recipe can be asked for beside what all can be.
_ANY = {"recipe", "out", "model", "precision", "layers", "rank", "limit", "seed", "track", "dry_run", "json_"}
_SAFETY_ROUND = {
    "policy", "demonstrations", "comparisons", "method", "sft_epochs", "retain", "dpo_epochs", "baseline_share", "rounds", "gate",
}  # fmt: skip
RECIPES = {
    "safety_round": _SAFETY_ROUND,
    "instructgpt": {"comparisons", "dev", "steps", "sft_epochs"},
    "llama2": {"comparisons", "dev", "helpfulness", "helpfulness_dev", "steps", "rounds"},
}
# What says how and where it runs, not what is done.
_AROUND = {"recipe", "out", "layers", "track", "dry_run", "gate", "json_"}
GATE_HELP = "End with exit code 1 where a release gate is not shown to be met; without it the report alone says so."


def align(
    context: typer.Context,
    model: Model = "starter",
    recipe: str = typer.Option(
        "safety_round",
        help="safety_round; on --comparisons: instructgpt (SFT, reward model, PPO), or llama2 (two reward models, rounds).",
    ),
    policy: str = typer.Option("", callback=existing, help="A policy document (YAML); the starter policy if none."),
    demonstrations: str = typer.Option("", callback=existing, help="Demonstrations (JSONL); the starter's if none."),
    comparisons: str = typer.Option(
        "", callback=existing, help="Comparisons added to DPO: prompt/chosen/rejected or hh-rlhf text."
    ),
    dev: str = typer.Option("", callback=existing, help="instructgpt, llama2: held-out comparisons to measure on."),
    helpfulness: str = typer.Option(
        "", callback=existing, help="llama2: comparisons of helpfulness; --comparisons are then those of safety."
    ),
    helpfulness_dev: str = typer.Option("", callback=existing, help="llama2: held-out comparisons of helpfulness."),
    steps: int = typer.Option(None, min=1, help="instructgpt, llama2: steps of PPO (a round).", show_default="20; 15"),
    out: Path = typer.Option(None, help="The run's folder; a new one under runs/ if none."),
    method: Method = "lora",
    precision: PrecisionName = "auto",
    layers: str = typer.Option("", help=LAYERS_HELP, show_default="upper; all in instructgpt and llama2"),
    rank: int = typer.Option(8, help="The adapters' rank.", show_default="8; 16 in instructgpt and llama2"),
    sft_epochs: int = typer.Option(None, help="Passes over the demonstrations."),
    retain: float = typer.Option(None, help="Weight of staying with the base model on benign prompts."),
    dpo_epochs: int = typer.Option(None, help="Passes over the pairs; 0 leaves DPO out."),
    baseline_share: float = typer.Option(
        None, help="Part of the verify prompts for baselines and changed system prompts."
    ),
    rounds: int = typer.Option(
        1,
        help="Rounds: each after the first red-teams, repairs what it finds, trains and proves it.",
        show_default="1; 2 in llama2",
    ),
    limit: int = typer.Option(0, help="Use only so many rows of each kind: a smoke run."),
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    dry_run: bool = typer.Option(False, "--dry-run", help="Check everything, say what would be done, do nothing."),
    gate: bool = typer.Option(False, "--gate", help=GATE_HELP),
    json_: bool = typer.Option(False, "--json", help="Print the run's manifest as JSON at the end."),
) -> None:
    """Take a model through one complete round: probe, learn from demonstrations and own failures, verify, report."""
    from accord.recipes.settings import AlignSettings, adapted_layers

    given = asked_for(context, recipe)
    target = out or RUNS / time.strftime(f"{'align' if recipe == 'safety_round' else recipe}-%Y%m%d-%H%M%S")
    chosen = {name: value for name, value in given.items() if name not in _AROUND} | adapted_layers(layers, method)
    if recipe == "safety_round":
        start(target, AlignSettings(**chosen), dry_run, gate, json_, track)
        return
    from accord.cli import instructgpt, llama2
    from accord.cli.progress import make_progress
    from accord.cli.recipe import carry_out
    from accord.cli.tracking import tracked

    prepared = instructgpt.prepared(chosen) if recipe == "instructgpt" else llama2.prepared(chosen)
    carry_out(prepared, target, dry_run, json_, tracked(make_progress(), track, target))


def asked_for(context: typer.Context, recipe: str) -> dict[str, Any]:
    """Return the options that were given, by name; what was not given is the recipe's own to choose.

    Raises:
        SettingsError: there is no such recipe, or it has no such option.
    """
    from accord.errors import SettingsError, nearest

    if recipe not in RECIPES:
        raise SettingsError(f"recipe '{recipe}' unknown{nearest(recipe, RECIPES)}; there are: {', '.join(RECIPES)}")
    given = {
        name: value
        for name, value in context.params.items()
        if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"
    }
    if strange := sorted(given.keys() - _ANY - RECIPES[recipe]):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in strange)
        raise SettingsError(f"recipe {recipe} has no {names}; its own options: {_listed(RECIPES[recipe])}")
    return given


def _listed(names: set[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(names))


def start(folder: Path, settings: object, dry_run: bool, gate: bool, as_json: bool, track: Sequence[str] = ()) -> None:
    """Check what was given, then do or go on with the round in `folder`.

    Raises:
        SettingsError: the base is to be quantised, or `gate` is asked of a policy that has none.
        NotMeasuredError: the round's judge fails cases made from the policy, whose verdict is known.
        GateError: with `gate`, a release gate is not shown to be met; the report is written all the same.
    """
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.data.checks import read_comparisons
    from accord.errors import GateError, SettingsError
    from accord.evals.gates import GateStatus
    from accord.models.chat import ChatFormat
    from accord.models.load import load_model
    from accord.models.logits import logit_scale
    from accord.recipes.material import read_material
    from accord.recipes.reporting import machine_facts
    from accord.recipes.safety_round import run_round
    from accord.recipes.settings import AlignSettings
    from accord.recipes.training import demonstration_trees
    from accord.runs.folder import open_run
    from accord.scorers.refusal import RefusalScorer
    from accord.scorers.selfcheck import require_trusted

    assert isinstance(settings, AlignSettings)
    settings.refuse_as_round()
    progress = tracked(make_progress(), track, folder)
    material = read_material(settings)
    require_trusted(RefusalScorer(), material.policy)
    if gate and not material.policy.round_gates:
        raise SettingsError("--gate: the policy has no gate on what a round measures; add a section `gates:` to it")
    n_pairs = 0
    if settings.comparisons:
        n_pairs = len(read_comparisons(settings.comparisons).comparisons)
    progress.say(
        f"model {settings.model}; policy {material.policy.name} ({len(material.policy.hazards)} hazards); "
        f"{len(material.demonstrations)} demonstrations, {len(material.held_out)} held out; {n_pairs} comparisons; "
        f"{len(material.verify)} verify prompts; {len(material.choices)} capability questions"
    )
    if dry_run:
        progress.say("dry run: nothing was written")
        return
    loaded = load_model(settings.model, settings.precision)
    logit_scale(loaded.model)
    # Refused before anything is written: a model without log-probabilities or a usable chat template, rows beyond its window.
    demonstrations = (*material.demonstrations, *material.held_out)
    demonstration_trees(loaded, ChatFormat(loaded.tokenizer), demonstrations, settings)
    run = open_run(folder, settings.asked(), machine_facts())
    page = run_round(run, settings, material, loaded, progress)
    if as_json:
        print(json.dumps(run.manifest(), indent=2))
    progress.say(f"report: {page}")
    progress.say(f"model:  {folder / 'model'}    talk to it: accord chat {folder}")
    gates = run.manifest()["gates"]
    failed = [f"{g['gate']}: {g['status']} ({g['reason']})" for g in gates if g["status"] != GateStatus.MET]
    if gate and failed:
        raise GateError(f"{len(failed)} of {len(gates)} release gates are not met: {'; '.join(failed)}")
