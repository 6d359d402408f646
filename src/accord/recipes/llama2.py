"""Llama 2's safety recipe: two reward models, then rounds of rejection sampling, PPO and context distillation (arXiv 2307.09288).

Safety and helpfulness have a reward model each, combined by the paper's rule. Each round begins with what red teaming found in
the round before, repaired, whose prompts then stand among those that this and all later rounds sample to; then the best of
several answers is learned, the model is reinforced, and what it says under the policy as preprompt is learned without it
wherever the safety reward rises. After each round it is measured on prompts that none trained on.

Each step is a run of the verb that does it, in a folder of its own; what is done is not done again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.data.checks import read_comparisons
from accord.data.findings import FindingStore
from accord.data.jsonl import write_rows
from accord.data.messages import messages_to_rows
from accord.data.records import read_demonstrations, read_prompts, write_records
from accord.feedback.context_distillation import distil
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, load_model
from accord.models.sampling import Sampling
from accord.policy import Policy, load_policy, system_prompt
from accord.recipes.attacked import TRAINED, Subject, drawn, under_attack
from accord.recipes.conversation_run import run_conversations
from accord.recipes.cost import Operations, Rows
from accord.recipes.lesson import Lesson, completers, keep, make_lesson
from accord.recipes.online_run import OnlineAsked, run_online
from accord.recipes.reporting import machine_facts
from accord.recipes.reward_run import run_reward
from accord.recipes.reward_truth import ANSWERS, N_SCALED, compared, once, rates_of, reward_deviation
from accord.recipes.settings import AlignSettings, OfRuns
from accord.recipes.sft_run import run_sft
from accord.report.llama2_page import Aim, LlamaRound, write_llama2
from accord.runs.atomic import file_digest, write_json
from accord.runs.folder import open_run
from accord.scorers.as_reward import Weighted, reward_named
from accord.scorers.refusal import RefusalScorer
from accord.starter import demonstrations_path, discover_path, policy_path, verify_path
from accord.train.collect import Asked, Judges, Source, collect
from accord.train.samples import Sample, read_samples
from accord.types import Comparison, Kind, Message, Progress, Prompt

VERB = "align, recipe llama2"
SAFETY, HELPFULNESS = "safety", "helpfulness"
# Of a step's prompts as many ask for safety as for help.
KINDS: dict[str, Kind] = {SAFETY: "harmful", HELPFULNESS: "ordinary"}
EPOCHS = 2
FOUND = "found.jsonl"


@dataclass(frozen=True, slots=True)
class LlamaSettings(OfRuns):
    """What the recipe can be asked for. `limit` keeps the first so many rows of each kind, for a smoke run."""

    comparisons: str
    dev: str
    helpfulness: str
    helpfulness_dev: str
    model: str = "starter"
    precision: str = "auto"
    rank: int = 16
    first_layer: int = 0
    last_layer: int = -1
    rounds: int = 2
    reward_epochs: int = 1
    margin: float = 1.0
    rejection_steps: int = 6
    steps: int = 15
    prompts_per_step: int = 32
    group: int = 4
    passes: int = 2
    max_new_tokens: int = 64
    kl: float = 0.05
    kl_budget: float = 15.0
    learning_rate: float = 1e-4
    n_prompts: int = 800
    n_distilled: int = 200
    n_held_out: int = 100
    limit: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Material:
    """Comparisons of either aim, by its name: to train on, and held out."""

    train: dict[str, tuple[Comparison, ...]]
    held_out: dict[str, tuple[Comparison, ...]]


def read_material(settings: LlamaSettings) -> Material:
    """Read both aims' comparisons.

    Raises:
        DataError: rows are malformed, or a file has no usable one.
    """
    files = {
        SAFETY: (settings.comparisons, settings.dev),
        HELPFULNESS: (settings.helpfulness, settings.helpfulness_dev),
    }
    limit = settings.limit or None
    train = {aim: read_comparisons(path, drop=True).comparisons[:limit] for aim, (path, _) in files.items()}
    held_out = {aim: read_comparisons(path, drop=True).comparisons[:limit] for aim, (_, path) in files.items()}
    return Material(train, held_out)


def plan(settings: LlamaSettings, material: Material) -> list[str]:
    """Return what would be done, a line a step, with how much of it there is."""
    s = settings
    n = (s.rejection_steps + s.steps) * s.prompts_per_step * s.group
    sizes = ", ".join(f"{aim} on {len(rows)}" for aim, rows in material.train.items())
    return [
        f"reward models, {s.reward_epochs} passes over comparisons: {sizes}",
        f"{s.rounds} rounds, each: {s.rejection_steps} steps of rejection sampling and {s.steps} of PPO, of "
        f"{s.prompts_per_step} prompts, {s.group} answers each: {n:,} answers, at most {n * s.max_new_tokens:,} tokens",
        f"context distillation on {s.n_distilled} safety prompts",
        "red teaming between rounds; what it finds is repaired and learned first in the next, and then sampled to with the rest",
        "measured after each round: harmful compliance, over-refusal and capability on prompts of untrained families",
        f"both rewards on {s.n_held_out} held-out prompts each",
    ]


def operations(settings: LlamaSettings, material: Material, rows: Rows) -> Operations:
    """Return what the plan costs, without red teaming, its lessons and what is measured; every distilled answer counts as kept."""
    s = settings
    compared = sum(map(len, material.train.values())) * s.reward_epochs
    best = rows.learned((s.max_new_tokens,))
    rejection = (rows.answered(s.group, judges=2) + best) * (s.rejection_steps * s.prompts_per_step)
    ppo = rows.reinforced(s.group, judges=2, passes=s.passes) * (s.steps * s.prompts_per_step)
    # With and without the preprompt.
    distilled = (rows.answered(1, judges=1) * 2 + best) * s.n_distilled
    return rows.compared() * compared + (rejection + ppo + distilled) * s.rounds


def run_llama2(
    out: Path, settings: LlamaSettings, material: Material, progress: Progress
) -> tuple[dict[str, Any], list[LlamaRound]]:
    """Do what is missing of the recipe in `out`; return facts, and what was measured before the first and after each round.

    Raises:
        InputError: the folder holds another run.
        DataError: rows do not fit the model's window.
    """
    digests = {
        name: file_digest(Path(getattr(settings, name)))
        for name in ("comparisons", "dev", "helpfulness", "helpfulness_dev")
    }
    open_run(out, {"verb": VERB, **settings.asked(), **digests}, machine_facts())
    recipe = _Recipe(out, settings, material, progress)
    facts: dict[str, Any] = {"reward models": recipe.reward_models()}
    rounds = [recipe.measured(0, settings.model)]
    model = settings.model
    for number in range(1, settings.rounds + 1):
        model = recipe.round(number, model)
        rounds.append(recipe.measured(number, model))
    write_json(out / "rounds.json", [asdict(r) for r in rounds])
    page = write_llama2(rounds, out / "report.html")
    return facts | {"model": model, "report": str(page)}, rounds


class _Recipe:
    def __init__(self, out: Path, settings: LlamaSettings, material: Material, progress: Progress) -> None:
        self.out, self.settings, self.material, self.progress = out, settings, material, progress
        self.policy: Policy = load_policy(policy_path())
        self.scorer = RefusalScorer()
        rng = random.Random(f"{settings.seed}/prompts")
        self.by_aim = {aim: self._prompts(rows, aim, rng) for aim, rows in material.train.items()}
        # What is sampled to, by id: what a round finds again is there already.
        self.prompts = {p.id: p for pair in zip(*self.by_aim.values(), strict=False) for p in pair}

    def _prompts(self, rows: Sequence[Comparison], aim: str, rng: random.Random) -> list[Prompt]:
        by_family = {c.family: c for c in rows}
        chosen = rng.sample(sorted(by_family), min(self.settings.n_prompts // 2, len(by_family)))
        return [_prompt(by_family[f], aim) for f in chosen]

    def reward_models(self) -> dict[str, Any]:
        """Train both reward models, margins by the preferences' strength."""
        facts: dict[str, Any] = {}
        for aim in KINDS:
            files = {name: self.out / "data" / f"{aim}-{name}.jsonl" for name in ("train", "dev")}
            write_records(files["train"], self.material.train[aim])
            write_records(files["dev"], self.material.held_out[aim])
            s = self.settings
            dials = s.training(s.model, epochs=s.reward_epochs, learning_rate=2e-4)
            found, held_out = run_reward(
                files["train"], files["dev"], self.out / aim, 0.01, s.margin, False, dials, True, self.progress
            )
            facts[aim] = {
                **found,
                "held-out accuracy": None if held_out is None else asdict(held_out.accuracy["reward"]),
            }
        return facts

    @cached_property
    def reward(self) -> str:
        """Both reward models' combination, each in units of its deviation between the starting model's answers to one prompt.

        Else the model that tells answers apart by larger numbers would drown the other, and no answer would be unsafe to one whose
        numbers are all near 0.
        """
        s, loaded = self.settings, self._load(self.settings.model)
        scaled = []
        for aim in KINDS:
            by_family = {c.family: c for c in self.material.train[aim]}
            rng = random.Random(f"{s.seed}/scale/{aim}")
            some = [by_family[f] for f in rng.sample(sorted(by_family), min(N_SCALED, len(by_family)))]
            kept = self.out / "measured" / f"scale-{aim}.jsonl"
            deviation = reward_deviation(loaded, self.out / aim, some, s.max_new_tokens, s.seed, kept)
            scaled.append(f"{1 / deviation:.4g}*{self.out / aim}")
        return f"llama2:{','.join(scaled)}"

    def round(self, number: int, model: str) -> str:
        """Do one round from a model; return the model that it ends with."""
        folder, s = self.out / f"round-{number}", self.settings
        if number > 1:
            lesson = self._lesson(folder, number, model)
            if lesson is not None:
                how: Any = s.adapters
                asked_of_sft = AlignSettings(model=model, sft_epochs=EPOCHS, **how)
                run_sft(lesson, folder / "findings", asked_of_sft, self.progress)
                model = str(folder / "findings")
                self.prompts |= {p.id: p for p in read_prompts(folder / FOUND).prompts}
        prompts = folder / "prompts.jsonl"
        write_records(prompts, self.prompts.values())
        for name, steps in (("rejection", s.rejection_steps), ("ppo", s.steps)):
            asked = OnlineAsked(
                rewards=(self.reward,),
                steps=steps,
                prompts_per_step=s.prompts_per_step,
                group=s.group,
                max_new_tokens=s.max_new_tokens,
                # What imitates its best answers has no reference to be held against.
                kl=s.kl if name == "ppo" else None,
                kl_budget=s.kl_budget if name == "ppo" else 0.0,
                passes=s.passes if name == "ppo" else 1,
            )
            dials = s.training(model, learning_rate=s.learning_rate, rows_per_step=max(1, s.prompts_per_step // 2))
            run_online(name, prompts, folder / name, asked, dials, self.progress)
            model = str(folder / name)
        return self._distilled(folder, model)

    def _distilled(self, folder: Path, model: str) -> str:
        """Learn, without it, what the model says under the policy as preprompt, where the safety reward rises."""
        s, rows = self.settings, folder / "distilled.jsonl"
        if not rows.exists():
            self.progress.say("context distillation")
            safety = reward_named(f"reward:{self.out / SAFETY}", self.policy)
            sampling = Sampling(s.max_new_tokens, 1.0, s.seed)
            prompts = self.by_aim[SAFETY][: s.n_distilled]
            found = distil(self._load(model), prompts, system_prompt(self.policy), safety, sampling)
            self.progress.say(f"{len(found.rows)} of {len(prompts)} answers under the preprompt are kept")
            write_rows(
                rows,
                [
                    {"messages": messages_to_rows((*d.prompt.messages, Message("assistant", d.answer)))}
                    for d in found.rows
                ],
            )
        if not rows.read_text(encoding="utf-8").strip():
            return model
        run_conversations(
            rows, None, folder / "distillation", s.training(model, learning_rate=s.learning_rate), self.progress
        )
        return str(folder / "distillation")

    def _lesson(self, folder: Path, number: int, model: str) -> Path | None:
        """Attack the model with `discover` goals, and return a file of repaired findings; None where there is none to learn from.

        Their prompts, as they were sent, stand in `FOUND` beside it.
        """
        path, s = folder / "lesson.jsonl", self.settings
        if path.exists():
            return path
        loaded = self._load(model)
        goals = read_prompts(discover_path()).prompts[: 2 * s.limit or None]
        subject = Subject(loaded, self.policy, self.scorer, s.max_new_tokens // 2, s.seed)
        trials = under_attack(subject, drawn(goals, TRAINED, 0.5, s.seed), folder / "red-team", self.progress)
        with FindingStore(self.out / "findings.sqlite") as store:
            store.seal(read_prompts(verify_path()).prompts)
            found = keep(store, trials, self.policy, f"llama2, round {number}", number)
            self.progress.say(f"round {number}: {len(found)} findings; repairing")
            if not found:
                return None
            lesson = asyncio.run(self._repaired(store, [f.id for f in found], loaded, folder))
        if not lesson.findings:
            return None
        # Of what the store lets be trained on, and of that only what was repaired and no person rejected.
        write_records(folder / FOUND, [replace(f.prompt, id=f.id, messages=f.asked) for f in lesson.findings])
        write_records(path, lesson.rows)
        return path

    async def _repaired(self, store: FindingStore, ids: Sequence[str], loaded: LoadedModel, folder: Path) -> Lesson:
        demonstrations = read_demonstrations(demonstrations_path())
        async with completers(loaded, self._load(self.settings.model)) as (answerer, base):
            lesson = await make_lesson(
                store, ids, demonstrations, self.policy, answerer, base, self.scorer, self.settings.seed, folder
            )
        if lesson.n_barred:
            self.progress.say(f"{lesson.n_barred} of {len(ids)} findings are left out: sealed, or called no failure")
        return lesson

    def measured(self, number: int, model: str) -> LlamaRound:
        """Measure a model as it was after a round; 0 is before the first."""
        s, folder = self.settings, self.out / "measured" / f"round-{number}"
        loaded = self._load(model)
        rates = rates_of(loaded, f"round {number}", s.seed, s.limit, folder / "verify", self.progress)
        aims = {aim: self._aim(aim, loaded, folder) for aim in KINDS}
        return LlamaRound(number, model, rates, aims[SAFETY], aims[HELPFULNESS])

    def _aim(self, aim: str, loaded: LoadedModel, folder: Path) -> Aim:
        """Return an aim's reward on its held-out prompts, and prompt by prompt against the model before the first round."""

        def answered() -> list[Sample]:
            reward = reward_named(f"reward:{self.out / aim}", self.policy)
            chat = ChatFormat(loaded.tokenizer)
            by_family = {c.family: c for c in self.material.held_out[aim]}
            prompts = [_prompt(by_family[f], aim) for f in sorted(by_family)][: self.settings.n_held_out]
            asked = [Asked(p, chat.prompt(p.messages)) for p in prompts]
            source = Source(loaded.model, chat.end_ids, chat.decode)
            sampling = Sampling(self.settings.max_new_tokens, 1.0, self.settings.seed)
            return collect(source, Judges(Weighted(((1.0, reward),))), asked, ANSWERS, sampling)

        now = once(folder / f"{aim}.jsonl", answered)
        first = read_samples(self.out / "measured" / "round-0" / f"{aim}.jsonl")
        found = compared(first, now, next(iter(now[0].scores)))
        return Aim(found.after, found.difference)

    def _load(self, model: str) -> LoadedModel:
        return load_model(model, self.settings.precision)  # type: ignore[arg-type]


def _prompt(c: Comparison, aim: str) -> Prompt:
    # A file of prompts wants a clause for each that is harmful; public comparisons name none.
    return Prompt(f"{aim}/{c.id}", c.messages, KINDS[aim], c.clause or "unsorted", c.family, "train")
