"""`accord train sft|reward|kto|distil`, and one verb for each objective on pairs (`dpo`, `ipo`, `simpo`, …)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.numbers import told
from accord.cli.objectives import with_own_options
from accord.cli.options import (
    LAYERS_HELP,
    Checkpointing,
    Layers,
    Method,
    Model,
    PrecisionName,
    Rank,
    Seed,
    Track,
    existing,
    system_prompt_of,
)
from accord.cli.progress import is_main_process

if TYPE_CHECKING:
    from accord.recipes.held_out import HeldOut
    from accord.recipes.retain import Retain
    from accord.recipes.settings import TrainingSettings
    from accord.types import Estimate

Comparisons = Annotated[
    Path,
    typer.Argument(
        callback=existing, help="Comparisons: prompt/chosen/rejected, TRL's formats, or hh-rlhf text; .gz too."
    ),
]
Out = Annotated[Path, typer.Option(help="The run's folder.")]
Dev = Annotated[
    Path | None, typer.Option(callback=existing, help="Held-out comparisons to measure preference accuracy on.")
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the rows.")]
LearningRate = Annotated[
    float | None,
    typer.Option(min=1e-12, help="The highest step size.", show_default="2e-4 for adapters, 1e-5 for --method full"),
]
RowsPerStep = Annotated[int, typer.Option(min=1, help="Rows an optimiser step takes up.")]
Drop = Annotated[
    bool, typer.Option(help="Leave out rows that cannot be used, and count them, instead of refusing the file.")
]
RetainOn = Annotated[
    Path | None,
    typer.Option(callback=existing, help="Benign conversations along whose answers the model is kept to what it was."),
]
RetainWeight = Annotated[float | None, typer.Option(min=0.0, help="Weight of --retain-on.", show_default="1")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def train_sft(
    data: Path = typer.Argument(..., callback=existing, help="Demonstrations, or plain conversations (JSONL)."),
    out: Path = typer.Option(..., help="The run's folder."),
    dev: Path = typer.Option(
        None, callback=existing, help="Held-out conversations, whose cost is measured before and after."
    ),
    model: Model = "starter",
    method: Method = "lora",
    epochs: int = typer.Option(None, min=1, help="Passes over the rows."),
    learning_rate: float = typer.Option(None, min=1e-12, help="The highest step size."),
    rows_per_step: int = typer.Option(None, min=1, help="Rows an optimiser step takes up."),
    retain: float = typer.Option(None, help="Weight of staying with the base model on prompts that are not harmful."),
    retain_on: Path = typer.Option(
        None,
        callback=existing,
        help="Beside conversations: benign ones along whose answers the model is kept to what it was.",
    ),
    rank: int = typer.Option(None, min=1, help="The adapters' rank."),
    layers: str = typer.Option("", help=LAYERS_HELP, show_default="upper for demonstrations, all for conversations"),
    checkpointing: Checkpointing = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    json_: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Train on demonstrations (harmful prompts' answers are learned, on all others the base model is kept), or on conversations.

    Rows of `messages` alone are conversations: the last answer of each is learned. Where an option is not given, each of the two
    has its own default.
    """
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.data.examples import read_examples
    from accord.errors import SettingsError
    from accord.recipes.conversation_run import run_conversations
    from accord.recipes.settings import AlignSettings, TrainingSettings, adapted_layers, default_learning_rate
    from accord.recipes.sft_run import run_sft

    progress = tracked(make_progress(), track, out)
    where: dict[str, Any] = {"model": model, "method": method, "precision": precision, "seed": seed}
    where |= {"checkpointing": checkpointing, **adapted_layers(layers, method)}
    where |= {name: x for name, x in (("rank", rank), ("rows_per_step", rows_per_step)) if x is not None}
    how = {"epochs": epochs, "learning_rate": learning_rate}
    if read_examples(data).kind == "conversations":
        where |= {"learning_rate": default_learning_rate(method)} | {
            name: x for name, x in how.items() if x is not None
        }
        kept = _retain(retain_on, retain)
        facts, costs = run_conversations(data, dev, out, TrainingSettings(**where), progress, kept)
        _show_nats(facts, costs, "held_out_nll", "held-out nats a token", json_)
        return
    if dev is not None:
        raise SettingsError("--dev needs plain conversations; `accord align` measures what demonstrations teach")
    if retain_on is not None:
        raise SettingsError(
            "--retain-on needs plain conversations; demonstrations retain their own rows that are not harmful"
        )
    given = {f"sft_{name}": x for name, x in how.items() if x is not None}
    if retain is not None:
        given["retain"] = retain
    _show(run_sft(data, out, AlignSettings(**where, **given), progress), None, json_)


def _show_nats(facts: Mapping[str, Any], nats: Mapping[str, Estimate], key: str, what: str, json_: bool) -> None:
    if not is_main_process():
        return
    if json_:
        print(json.dumps({**facts, key: {name: asdict(e) for name, e in nats.items()}}))
        return
    _show(facts, None, False)
    for name, e in nats.items():
        span = "no interval" if e.low is None else f"[{e.low:.3f}, {e.high:.3f}]"
        print(f"{what}, {name}: {e.value:.3f} {span} (n={e.n}; {e.method})")


def _retain(retain_on: Path | None, weight: float | None) -> Retain:
    from accord.errors import SettingsError
    from accord.recipes.retain import Retain

    if retain_on is None and weight is not None:
        raise SettingsError("--retain needs --retain-on FILE, whose benign prompts the base model is kept to")
    return Retain(retain_on) if weight is None else Retain(retain_on, weight)


def _settings(method: str, layers: str, learning_rate: float | None, **others: Any) -> TrainingSettings:
    from accord.recipes.settings import TrainingSettings, adapted_layers, default_learning_rate

    rate = default_learning_rate(method) if learning_rate is None else learning_rate
    return TrainingSettings(method=method, learning_rate=rate, **adapted_layers(layers, method), **others)  # type: ignore[arg-type]


def _train_pairs(
    data: Comparisons,
    out: Out,
    dev: Dev = None,
    model: Model = "starter",
    method: Method = "lora",
    epochs: Epochs = 1,
    learning_rate: LearningRate = None,
    rows_per_step: RowsPerStep = 8,
    retain_on: RetainOn = None,
    retain: RetainWeight = None,
    rank: Rank = 16,
    layers: Layers = "all",
    checkpointing: Checkpointing = False,
    drop: Drop = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    json_: AsJson = False,
    *,
    objective: str,
    options: Mapping[str, float],
) -> None:
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.recipes.preference_run import run_preferences

    settings = _settings(
        method, layers, learning_rate, model=model, precision=precision, rank=rank, seed=seed, checkpointing=checkpointing,
        epochs=epochs, rows_per_step=rows_per_step,
    )  # fmt: skip
    progress, kept = tracked(make_progress(), track, out), _retain(retain_on, retain)
    facts, held_out = run_preferences(data, dev, out, objective, options, settings, drop, progress, kept)
    _show(facts, held_out, json_)


def train_reward(
    data: Comparisons,
    out: Out,
    dev: Dev = None,
    model: Model = "starter",
    method: Method = "lora",
    epochs: Epochs = 1,
    learning_rate: LearningRate = None,
    rows_per_step: RowsPerStep = 8,
    centring: float = typer.Option(0.0, min=0.0, help="Pull of a pair's scores towards 0."),
    margin: float = typer.Option(0.0, min=0.0, help="By how much a preference of strength 1 should lead."),
    rank: Rank = 16,
    layers: Layers = "all",
    checkpointing: Checkpointing = False,
    drop: Drop = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    cost: bool = typer.Option(
        False,
        "--cost",
        help="Score harm, with 0 as the border between safe and unsafe: of comparisons with chosen_safe and rejected_safe, or of "
        "answers with human_scores (0 to 1, 1: harmful).",
    ),
    json_: AsJson = False,
) -> None:
    """Train a reward model; with --dev, print its held-out accuracy and calibration beside the base model's and length rules'."""
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.recipes.reward_run import run_reward

    settings = _settings(
        method, layers, learning_rate, model=model, precision=precision, rank=rank, seed=seed, checkpointing=checkpointing,
        epochs=epochs, rows_per_step=rows_per_step,
    )  # fmt: skip
    facts, held_out = run_reward(
        data, dev, out, centring, margin, cost, settings, drop, tracked(make_progress(), track, out)
    )
    _show(facts, held_out, json_)


def train_kto(
    data: Path = typer.Argument(
        ..., callback=existing, help="Rows of prompt/completion/label, or comparisons, which are taken apart."
    ),
    out: Path = typer.Option(..., help="The run's folder."),
    model: Model = "starter",
    method: Method = "lora",
    epochs: Epochs = 1,
    learning_rate: LearningRate = None,
    rows_per_step: RowsPerStep = 16,
    retain_on: RetainOn = None,
    retain: RetainWeight = None,
    beta: float = typer.Option(0.1, min=1e-6, help="How closely the reference is kept."),
    desirable_weight: float = typer.Option(1.0, min=0.0, help="Weight of a desirable answer's loss."),
    undesirable_weight: float = typer.Option(1.0, min=0.0, help="Weight of an undesirable one's."),
    rank: Rank = 16,
    layers: Layers = "all",
    checkpointing: Checkpointing = False,
    drop: Drop = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    json_: AsJson = False,
) -> None:
    """Train on answers that are each marked good or bad (KTO)."""
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.recipes.unpaired_run import run_kto

    settings = _settings(
        method, layers, learning_rate, model=model, precision=precision, rank=rank, seed=seed, checkpointing=checkpointing,
        epochs=epochs, rows_per_step=rows_per_step,
    )  # fmt: skip
    progress, kept = tracked(make_progress(), track, out), _retain(retain_on, retain)
    facts = run_kto(data, out, beta, desirable_weight, undesirable_weight, settings, drop, progress, kept)
    _show(facts, None, json_)


def train_distil(
    data: Path = typer.Argument(
        ..., callback=existing, help="Conversations or demonstrations, or prompts, which the teacher answers (JSONL)."
    ),
    out: Path = typer.Option(..., help="The run's folder."),
    system: str = typer.Option("", help="What the teacher reads first: a system prompt, or a file that holds one."),
    policy: Path = typer.Option(
        None, callback=existing, help="A policy document (YAML), whose system prompt the teacher reads first, instead."
    ),
    dev: Path = typer.Option(
        None,
        callback=existing,
        help="Held-out rows, on which the distance to the teacher is measured before and after.",
    ),
    max_new_tokens: int = typer.Option(128, min=1, help="Tokens of an answer that the teacher gives, at most."),
    model: Model = "starter",
    method: Method = "lora",
    epochs: Epochs = 1,
    learning_rate: LearningRate = None,
    rows_per_step: RowsPerStep = 8,
    retain_on: RetainOn = None,
    retain: RetainWeight = None,
    rank: Rank = 16,
    layers: Layers = "all",
    checkpointing: Checkpointing = False,
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    track: Track = [],  # noqa: B006 (Typer reads it)
    json_: AsJson = False,
) -> None:
    """Learn to answer without a system prompt, or a policy, as under it (context distillation, at every token's distribution)."""
    from accord.cli.progress import make_progress
    from accord.cli.tracking import tracked
    from accord.errors import SettingsError
    from accord.policy import load_policy, system_prompt
    from accord.recipes.distil_run import run_distillation

    if bool(system) == (policy is not None):
        raise SettingsError("give the teacher either --system TEXT or --policy FILE to read")
    preprompt = system_prompt(load_policy(policy)) if policy else system_prompt_of(system)
    settings = _settings(
        method, layers, learning_rate, model=model, precision=precision, rank=rank, seed=seed, checkpointing=checkpointing,
        epochs=epochs, rows_per_step=rows_per_step,
    )  # fmt: skip
    progress, kept = tracked(make_progress(), track, out), _retain(retain_on, retain)
    facts, distances = run_distillation(data, dev, out, preprompt, max_new_tokens, settings, progress, kept)
    _show_nats(facts, distances, "held_out_kl", "held-out nats a token from the teacher", json_)


def pair_commands() -> Iterator[tuple[str, Callable[..., None]]]:
    """Return a verb for each objective on pairs, whose own options stand beside the shared ones."""
    from accord.resolve import names_in, resolve

    for name in names_in("accord.objectives"):
        loss = resolve("accord.objectives", name)
        if next(iter(inspect.signature(loss).parameters)) == "pairs":
            yield (
                name.replace("_", "-"),
                with_own_options(
                    _train_pairs, name, loss, "Trains on comparisons; with --dev, prints held-out accuracy."
                ),
            )


def _show(facts: Mapping[str, Any], held_out: HeldOut | None, json_: bool) -> None:
    if not is_main_process():
        return
    if json_:
        print(json.dumps({**facts, **(asdict(held_out) if held_out else {})}))
        return
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    if held_out is None:
        return
    for name, estimate in held_out.accuracy.items():
        print(f"held-out preference accuracy, {name}: {told(estimate)}")
    for name, estimate in held_out.borders.items():
        print(f"held-out answers {name}: {told(estimate)}")
    for name, estimate in held_out.slices.items():
        print(f"of these, {name}: {told(estimate)}")
    for b in held_out.calibration:
        said = "none" if b.predicted is None else f"{b.predicted:.1%} on average"
        print(f"sure of a preference by {b.low:.0%} to {b.high:.0%} ({said}): right in {told(b.observed)}")
    error = held_out.calibration_error
    if held_out.calibration:
        print(
            f"mean distance of the two: {'not measured' if error is None else f'{error:.1%}'} (biased upwards in small samples)"
        )


COMMANDS = (train_sft, train_reward, train_kto, train_distil)
