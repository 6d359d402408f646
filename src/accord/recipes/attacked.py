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
from accord.types import Progress, Prompt

# What the model is trained against, and what it is verified with beside: attacks of fixed disguises, which cost few questions.
TRAINED = ("direct", "persona", "template", "refusal_suppression", "prefix_injection", "past_tense")
HELD_OUT = ("answer_prefill", "many_shot", "persuasion", "leetspeak", "indirect_injection")


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


def under_attack(
    loaded: LoadedModel,
    attacked: Attacked,
    policy: Policy,
    scorer: Scorer,
    max_new_tokens: int,
    seed: int,
    folder: Path,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Run every attack on its goals and return all trials; what `folder` holds is not asked again."""
    trials: list[Trial] = []
    for name, goals in attacked.goals:
        attack: Attack = resolve("accord.redteam.attacks", name)()
        # Enough for every goal's every disguise: all trials are uniform.
        plan = Plan(budget=12 * len(goals), queries=12, uniform_share=1.0, seed=seed, max_new_tokens=max_new_tokens)
        trials += asyncio.run(_campaign(loaded, name, attack, goals, policy, scorer, plan, folder / name, progress))
    return tuple(trials)


async def _campaign(
    loaded: LoadedModel,
    name: str,
    attack: Attack,
    goals: Sequence[Prompt],
    policy: Policy,
    scorer: Scorer,
    plan: Plan,
    folder: Path,
    progress: Progress,
) -> tuple[Trial, ...]:
    completer = LocalCompleter(loaded)
    try:
        return await run_campaign(completer, {name: attack}, goals, policy, scorer, plan, folder, progress)
    finally:
        await completer.close()
