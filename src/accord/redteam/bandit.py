"""Which attack is tried on which goal next: a fixed order that sees nothing, and a bandit that goes where successes are.

Pure functions of what has happened and a seed. Left out: a bandit over single goals, of which each is tried once an attack.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from accord.types import Prompt

Cell = tuple[str, Prompt]
# How much an attack's rate over all hazards counts for one hazard, in trials.
_PRIOR_TRIALS = 2.0


def uniform_order(attacks: Sequence[str], goals: Sequence[Prompt], seed: int) -> list[Cell]:
    """Return every attack on every goal, in a random order whose beginnings are all balanced.

    Pass p tries on the g-th goal the (g + p)-th attack, both in random order: any beginning holds each goal equally often, give or
    take one, and of each attack too. Each place of the order falls on each pair with the same probability, so a rate over a
    beginning whose length does not depend on what was seen is unbiased.
    """
    rng = random.Random(f"{seed}/uniform")
    attacks, goals = rng.sample(list(attacks), len(attacks)), rng.sample(list(goals), len(goals))
    return [(attacks[(g + p) % len(attacks)], goal) for p in range(len(attacks)) for g, goal in enumerate(goals)]


class Bandit:
    """Thompson sampling over attack × hazard (Thompson 1933; Chapelle and Li 2011), by successes for each query.

    The success of attack a on hazard h has the prior Beta(2 p_a, 2 (1 - p_a)), where p_a = (1 + S_a) / (2 + N_a) is the attack's
    rate over all hazards: what it does on one tells something of another. A draw of that is divided by the attack's mean number
    of queries, and the largest quotient wins.
    """

    def __init__(self, cells: Sequence[Cell], queries: int) -> None:
        """`queries` is what a trial costs as long as nothing is known of its attack."""
        self._goals: dict[tuple[str, str], list[Prompt]] = {}
        for attack, goal in cells:
            self._goals.setdefault((attack, goal.clause), []).append(goal)
        self._queries = queries
        self._hits: Counter[tuple[str, str]] = Counter()
        self._misses: Counter[tuple[str, str]] = Counter()
        self._attack_hits: Counter[str] = Counter()
        self._attack_misses: Counter[str] = Counter()
        self._cost: Counter[str] = Counter()
        self._n_trials: Counter[str] = Counter()

    def take(self, attack: str, goal: Prompt) -> None:
        """Strike out a pair: it is being tried."""
        left = self._goals.get((attack, goal.clause), [])
        if goal in left:
            left.remove(goal)

    def learn(self, attack: str, goal: Prompt, succeeded: bool | None, n_queries: int) -> None:
        """Take in how a trial ended; one that could not be scored teaches only what it cost."""
        self._cost[attack] += n_queries
        self._n_trials[attack] += 1
        if succeeded is not None:
            (self._hits if succeeded else self._misses)[attack, goal.clause] += 1
            (self._attack_hits if succeeded else self._attack_misses)[attack] += 1

    def choose(self, affordable: Sequence[str], rng: random.Random) -> Cell | None:
        """Return a pair that was not tried yet, of one of the `affordable` attacks; None where none is left."""
        arms = [arm for arm, goals in self._goals.items() if goals and arm[0] in affordable]
        if not arms:
            return None
        attack, hazard = max(arms, key=lambda arm: self._draw(arm, rng) / self._mean_cost(arm[0]))
        return attack, rng.choice(self._goals[attack, hazard])

    def _draw(self, arm: tuple[str, str], rng: random.Random) -> float:
        hits, misses = self._attack_hits[arm[0]], self._attack_misses[arm[0]]
        rate = (1 + hits) / (2 + hits + misses)
        return rng.betavariate(_PRIOR_TRIALS * rate + self._hits[arm], _PRIOR_TRIALS * (1 - rate) + self._misses[arm])

    def _mean_cost(self, attack: str) -> float:
        return (self._queries + self._cost[attack]) / (1 + self._n_trials[attack])
