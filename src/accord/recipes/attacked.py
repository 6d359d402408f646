"""A model under attacks, as a round measures it: goals × attacks, each pair drawn by the seed, in campaigns that survive a kill."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.models.load import LoadedModel
from accord.models.local import LocalCompleter
from accord.policy import Policy
from accord.redteam.attack import Attack
from accord.redteam.campaign import Plan, run_campaign
from accord.redteam.summary import Trial
from accord.resolve import resolve
from accord.scorers.scorer import Scorer
from accord.types import Progress, Prompt, Silent

# What the model is trained against, and what it is verified with beside: attacks of fixed disguises, which cost few questions.
TRAINED = ("direct", "persona", "template", "refusal_suppression", "prefix_injection", "past_tense")
HELD_OUT = ("answer_prefill", "many_shot", "persuasion", "leetspeak", "indirect_injection")
# More than any of them has disguises.
N_QUERIES = 12


@dataclass(frozen=True, slots=True)
class Attacked:
    """What is tried: by attack, the goals."""

    goals: tuple[tuple[str, tuple[Prompt, ...]], ...]


def drawn(goals: Sequence[Prompt], attacks: Sequence[str], share: float, seed: int) -> Attacked:
    """Draw a share of all pairs of an attack and a goal, the same number of attacks for each goal.

    A goal's harmful prompt and its benign twin meet the same attacks.
    """
    n = max(1, round(share * len(attacks)))
    chosen: dict[str, list[Prompt]] = {attack: [] for attack in attacks}
    for goal in goals:
        rng = random.Random(f"{seed}/attacks on/{goal.pair or goal.id}")
        for attack in rng.sample(list(attacks), n):
            chosen[attack].append(goal)
    return Attacked(tuple((attack, tuple(rows)) for attack, rows in chosen.items() if rows))


@dataclass(frozen=True, slots=True)
class Subject:
    """The model that is attacked, and how its answers are made and judged."""

    loaded: LoadedModel
    policy: Policy
    scorer: Scorer
    max_new_tokens: int
    seed: int


def under_attack(subject: Subject, attacked: Attacked, folder: Path, progress: Progress) -> tuple[Trial, ...]:
    """Run every attack on its goals and return all trials; what `folder` holds is not asked again."""
    return asyncio.run(_campaigns(subject, attacked, folder, progress))


async def _campaigns(subject: Subject, attacked: Attacked, folder: Path, progress: Progress) -> tuple[Trial, ...]:
    completer = LocalCompleter(subject.loaded)
    progress.start(folder.name, sum(len(goals) for _, goals in attacked.goals), "trials")

    async def campaign(name: str, goals: Sequence[Prompt]) -> tuple[Trial, ...]:
        attack: Attack = resolve("accord.redteam.attacks", name)()
        # Enough for every goal's every disguise: all trials are uniform.
        budget = N_QUERIES * len(goals)
        plan = Plan(budget, N_QUERIES, uniform_share=1.0, seed=subject.seed, max_new_tokens=subject.max_new_tokens)
        trials = await run_campaign(
            completer, {name: attack}, goals, subject.policy, subject.scorer, plan, folder / name, Silent()
        )
        progress.advance(len(goals), name)
        return trials

    try:
        # All at once: what they ask goes through the model in full batches.
        found = await asyncio.gather(*(campaign(name, goals) for name, goals in attacked.goals))
    finally:
        await completer.close()
    progress.finish()
    return tuple(trial for trials in found for trial in trials)
