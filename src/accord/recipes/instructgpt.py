"""InstructGPT: demonstrations, then comparisons, then reinforcement learning with the pretraining mix (arXiv 2203.02155).

The comparisons are parted in two by prompt. One half trains the reward model that is learned from, the other a second one that only
watches: where the first goes on rising and the second does not, the reward is no longer true. All is measured on held-out prompts,
by both, beside what it cost: the divergence from the SFT model, refusals of benign prompts, capability.

Each step is a run of the verb that does it (`accord train sft`, `reward`, `ppo`), in a folder of its own under this run's; what is
done is not done again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accord.data.checks import read_comparisons
from accord.data.jsonl import write_rows
from accord.data.messages import messages_to_rows
from accord.data.records import write_records
from accord.errors import DataError
from accord.models.load import load_model
from accord.recipes.conversation_run import run_conversations
from accord.recipes.cost import Operations, Rows
from accord.recipes.online_run import OnlineAsked, run_online
from accord.recipes.reporting import machine_facts
from accord.recipes.reward_run import run_reward
from accord.recipes.reward_truth import N_SCALED, measure_truth, reward_deviation
from accord.recipes.settings import OfRuns
from accord.report.reinforcement import Truth
from accord.report.reinforcement_page import write_reinforcement
from accord.runs.atomic import file_digest, write_json
from accord.runs.folder import open_run
from accord.types import Comparison, Message, Progress

VERB = "align, recipe instructgpt"
TRUTH = "truth.json"
# The reward's models and the model that is reinforced, by the folders of their runs.
SFT, REWARD, WATCHER, PPO = "sft", "reward", "watcher", "ppo"


@dataclass(frozen=True, slots=True)
class InstructSettings(OfRuns):
    """What the recipe can be asked for. `limit` keeps the first so many comparisons and held-out ones, for a smoke run.

    The reward is learned from in units of its standard deviation over the SFT model's answers: a reward model's scale is whatever
    its training ended at, and `kl`, what a nat costs, is in the same units.
    """

    comparisons: str
    dev: str
    model: str = "starter"
    precision: str = "auto"
    rank: int = 16
    first_layer: int = 0
    last_layer: int = -1
    sft_epochs: int = 1
    reward_epochs: int = 1
    steps: int = 20
    prompts_per_step: int = 32
    group: int = 4
    passes: int = 2
    max_new_tokens: int = 64
    kl: float = 0.1
    kl_budget: float = 15.0
    ptx: float = 0.5
    learning_rate: float = 1e-3
    n_held_out: int = 150
    limit: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """The comparisons, parted by prompt, and those held out."""

    reward: tuple[Comparison, ...]
    watcher: tuple[Comparison, ...]
    held_out: tuple[Comparison, ...]

    @property
    def train(self) -> tuple[Comparison, ...]:
        """All comparisons of both halves."""
        return (*self.reward, *self.watcher)


def read_material(settings: InstructSettings) -> Material:
    """Read the comparisons and part them; comparisons of one prompt stand in one half.

    Raises:
        DataError: rows are malformed, or there are too few to part.
    """
    train = read_comparisons(settings.comparisons, drop=True).comparisons
    held_out = read_comparisons(settings.dev, drop=True).comparisons
    if settings.limit:
        train, held_out = train[: settings.limit], held_out[: settings.limit]
    families = sorted({c.family for c in train})
    if len(families) < 2:
        raise DataError(f"{settings.comparisons}: {len(families)} prompt; two halves need two prompts at least")
    random.Random(f"{settings.seed}/halves").shuffle(families)
    first = set(families[: len(families) // 2])
    return Material(
        tuple(c for c in train if c.family in first), tuple(c for c in train if c.family not in first), tuple(held_out)
    )


def plan(settings: InstructSettings, material: Material) -> list[str]:
    """Return what would be done, a line a step, with how much of it there is."""
    s, n = settings, settings.steps * settings.prompts_per_step * settings.group
    n_held_out = min(s.n_held_out, len(material.held_out))
    return [
        f"SFT on {len(material.train)} preferred answers, {s.sft_epochs} passes",
        f"reward model on {len(material.reward)} comparisons, {s.reward_epochs} passes",
        f"watcher on {len(material.watcher)} comparisons of other prompts, {s.reward_epochs} passes",
        f"PPO: {s.steps} steps of {s.prompts_per_step} prompts, {s.group} answers each, {s.passes} passes over them: "
        f"{n:,} answers, at most {n * s.max_new_tokens:,} tokens sampled",
        f"measured before and after: both rewards on {n_held_out} held-out prompts, refusals of benign prompts, capability",
    ]


def operations(settings: InstructSettings, material: Material, rows: Rows) -> Operations:
    """Return what the plan costs, without what is measured; beside each prompt of PPO a demonstration is learned."""
    s = settings
    compared = (len(material.reward) + len(material.watcher)) * s.reward_epochs
    prompts = s.steps * s.prompts_per_step
    demonstrated = len(material.train) * s.sft_epochs + prompts * s.passes
    return (
        rows.learned((rows.answer,)) * demonstrated
        + rows.compared() * compared
        + rows.reinforced(s.group, judges=2, passes=s.passes) * prompts
    )


def run_instructgpt(
    out: Path, settings: InstructSettings, material: Material, progress: Progress
) -> tuple[dict[str, Any], Truth]:
    """Do what is missing of the recipe in `out`; return facts, and what was measured.

    Raises:
        InputError: the folder holds another run.
        DataError: rows do not fit the model's window.
    """
    asked = settings.asked() | {
        "comparisons": file_digest(Path(settings.comparisons)),
        "dev": file_digest(Path(settings.dev)),
    }
    open_run(out, {"verb": VERB, **asked}, machine_facts())
    files = _write(out / "data", material)
    facts: dict[str, Any] = {}

    progress.say("1 of 4: demonstrations")
    facts["sft"], _ = run_conversations(
        files["sft"],
        None,
        out / SFT,
        settings.training(settings.model, epochs=settings.sft_epochs, learning_rate=2e-4),
        progress,
    )
    for name, step in ((REWARD, "2 of 4: the reward model"), (WATCHER, "2 of 4: the watcher")):
        progress.say(step)
        dials = settings.training(str(out / SFT), epochs=settings.reward_epochs, learning_rate=2e-4)
        facts[name], held_out = run_reward(
            files[name], files["dev"], out / name, 0.01, 0.0, False, dials, True, progress
        )
        facts[name]["held-out accuracy"] = None if held_out is None else asdict(held_out.accuracy["reward"])
    progress.say("3 of 4: reinforcement learning")
    sft = load_model(str(out / SFT), settings.precision)  # type: ignore[arg-type]
    deviation = reward_deviation(
        sft,
        out / REWARD,
        _some(material.train, N_SCALED, f"{settings.seed}/scale"),
        settings.max_new_tokens,
        settings.seed,
        out / "measured" / "scale.jsonl",
    )
    facts["a deviation of the reward"] = deviation
    online = OnlineAsked(
        rewards=(f"{1 / deviation:.4g}*reward:{out / REWARD}",),
        watcher=f"reward:{out / WATCHER}",
        steps=settings.steps,
        prompts_per_step=settings.prompts_per_step,
        group=settings.group,
        passes=settings.passes,
        max_new_tokens=settings.max_new_tokens,
        kl=settings.kl,
        kl_budget=settings.kl_budget,
        ptx=settings.ptx,
    )
    dials = settings.training(
        str(out / SFT),
        learning_rate=settings.learning_rate,
        rows_per_step=max(1, settings.prompts_per_step // 2),
    )
    facts[PPO], _, evidence = run_online("ppo", files["prompts"], out / PPO, online, dials, progress, files["sft"])
    progress.say("4 of 4: measuring")
    truth = measure_truth(
        sft,
        load_model(str(out / PPO), dials.precision),
        (out / REWARD, out / WATCHER),
        _some(material.held_out, settings.n_held_out, f"{settings.seed}/held out"),
        settings.max_new_tokens,
        settings.seed,
        settings.limit,
        out / "measured",
        progress,
    )
    write_json(out / TRUTH, asdict(truth))
    page = write_reinforcement(
        replace(evidence, title="InstructGPT on human comparisons", truth=truth), out / "report.html"
    )
    facts |= {"model": str(out / PPO), "report": str(page)}
    return facts, truth


def _some(comparisons: Sequence[Comparison], n: int, seed: str) -> list[Comparison]:
    """Return n comparisons of different prompts, drawn at random."""
    by_family = {c.family: c for c in comparisons}
    rows = [by_family[f] for f in sorted(by_family)]
    return random.Random(seed).sample(rows, min(n, len(rows)))


def _write(folder: Path, material: Material) -> dict[str, Path]:
    """Write the files that the single runs read; they are the same whenever the recipe is gone on with."""
    rows: dict[str, list[dict[str, Any]]] = {
        "sft": [{"messages": messages_to_rows((*c.messages, Message("assistant", c.chosen)))} for c in material.train],
        "prompts": [{"id": c.id, "prompt": messages_to_rows(c.messages)} for c in material.train],
    }
    pairs = {REWARD: material.reward, WATCHER: material.watcher, "dev": material.held_out}
    files = {name: folder / f"{name}.jsonl" for name in (*rows, *pairs)}
    for name, own in rows.items():
        write_rows(files[name], own)
    for name, comparisons in pairs.items():
        write_records(files[name], comparisons)
    return files
