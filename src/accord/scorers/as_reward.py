"""Any scorer as a reward: one number a transcript, the higher the better, or none, with the reason.

What could not be judged has no reward. It is never 0: a judge that fails would otherwise teach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from accord.errors import DataError, SettingsError
from accord.policy import Policy
from accord.resolve import resolve
from accord.scorers.endpoint import EndpointScorer
from accord.scorers.named import scorer_named
from accord.scorers.reward import RewardScorer
from accord.scorers.scorer import Scorer
from accord.types import Score, Transcript, acceptable


@dataclass(frozen=True, slots=True)
class Given:
    """A reward, or the reason why there is none."""

    value: float | None
    reason: str = ""


class Reward(Protocol):
    """Gives transcripts a number each; the higher the better."""

    @property
    def name(self) -> str:
        """What is shown."""

    def of(self, transcripts: Sequence[Transcript]) -> list[Given]:
        """Return a reward a transcript, in order."""


@dataclass(frozen=True, slots=True)
class ByNumber:
    """The number that a scorer gives, turned round where it is a cost."""

    scorer: Scorer
    sign: int = 1

    @property
    def name(self) -> str:
        """The scorer's."""
        return self.scorer.name

    def of(self, transcripts: Sequence[Transcript]) -> list[Given]:
        """Return the scorer's numbers."""
        return [self._given(score) for score in self.scorer.score_all(transcripts)]

    def _given(self, score: Score) -> Given:
        if score.value is None or not math.isfinite(score.value):
            return Given(None, score.reason or "the scorer gave no number")
        return Given(self.sign * score.value)


@dataclass(frozen=True, slots=True)
class ByVerdict:
    """1 where the answer is what the clause's response mode asks for, 0 where it is another, nothing where it was not assessed."""

    scorer: Scorer
    policy: Policy

    @property
    def name(self) -> str:
        """The scorer's."""
        return self.scorer.name

    def of(self, transcripts: Sequence[Transcript]) -> list[Given]:
        """Return 1 or 0 a transcript."""
        return [self._given(t, score) for t, score in zip(transcripts, self.scorer.score_all(transcripts), strict=True)]

    def _given(self, transcript: Transcript, score: Score) -> Given:
        good = acceptable(transcript.kind, self.policy.response_mode(transcript.clause), score.outcome)
        return Given(None, score.reason or score.outcome.value) if good is None else Given(float(good))


@dataclass(frozen=True, slots=True)
class Failing:
    """1 less what a reward of 0 and 1 gives: the cost of what it does not accept."""

    reward: Reward

    @property
    def name(self) -> str:
        """The reward's, turned round."""
        return f"not {self.reward.name}"

    def of(self, transcripts: Sequence[Transcript]) -> list[Given]:
        """Return 1 less each reward."""
        return [g if g.value is None else Given(1 - g.value) for g in self.reward.of(transcripts)]


@dataclass(frozen=True, slots=True)
class ByFunction:
    """A user's function of one transcript that returns a number, or None; an exception is no reward, with its text."""

    name: str
    function: Callable[[Transcript], Any]

    def of(self, transcripts: Sequence[Transcript]) -> list[Given]:
        """Return what the function returns."""
        return [self._given(t) for t in transcripts]

    def _given(self, transcript: Transcript) -> Given:
        try:
            said = self.function(transcript)
        except Exception as error:  # a user's code may raise anything, and the run must go on
            return Given(None, f"{type(error).__name__}: {error}")
        if isinstance(said, int | float) and math.isfinite(said):
            return Given(float(said))
        return Given(None, f"the function returned {said!r:.60}; expected a number")


@dataclass(frozen=True, slots=True)
class Weighted:
    """Several rewards with weights; where one gives none, there is none."""

    parts: tuple[tuple[float, Reward], ...]

    @property
    def name(self) -> str:
        """The parts', with their weights."""
        if len(self.parts) == 1 and self.parts[0][0] == 1:
            return self.parts[0][1].name
        return " + ".join(f"{weight:g} * {reward.name}" for weight, reward in self.parts)

    def by_part(self, transcripts: Sequence[Transcript]) -> list[Mapping[str, Given]]:
        """Return what each part gives, by its name, a transcript."""
        given = {reward.name: reward.of(transcripts) for _, reward in self.parts}
        return [{name: column[i] for name, column in given.items()} for i in range(len(transcripts))]

    def together(self, given: Mapping[str, Given]) -> Given:
        """Return the weighted sum of what the parts gave."""
        total = 0.0
        for weight, reward in self.parts:
            one = given[reward.name]
            if one.value is None:
                return Given(None, f"{reward.name}: {one.reason}")
            total += weight * one.value
        return Given(total)


def reward_named(name: str, policy: Policy) -> Reward:
    """Return a reward: `reward:RUN`, `cost:RUN` (turned round), FILE.py:NAME, an http(s) address, or a judge's name.

    Raises:
        SettingsError: there is no such reward.
        ModelError: its model cannot be loaded.
    """
    kind, _, of = name.partition(":")
    if kind in ("reward", "cost"):
        from accord.models.reward import load_reward_model

        if not of:
            raise SettingsError(f"reward '{name}' names no model; write {kind}:RUN, with a run's folder or a hub id")
        return ByNumber(RewardScorer(load_reward_model(of), kind), 1 if kind == "reward" else -1)  # type: ignore[arg-type]
    if ".py:" in name:
        return ByFunction(name, resolve("accord.scorers", name))
    scorer = scorer_named(name, policy)
    return ByNumber(scorer) if isinstance(scorer, EndpointScorer) else ByVerdict(scorer, policy)


def cost_named(name: str, policy: Policy) -> Reward:
    """Return what an answer costs, the higher the worse: `cost:RUN`, a function, or 1 where a judge does not accept it.

    Raises:
        SettingsError: there is no such scorer, or it is a reward model, whose zero is no border.
        ModelError: its model cannot be loaded.
    """
    if name.startswith("reward:"):
        raise SettingsError(f"'{name}' rewards; a cost is a cost model (cost:RUN), a function, or a judge's name")
    found = reward_named(name, policy)
    if isinstance(found, ByVerdict):
        return Failing(found)
    return replace(found, sign=1) if isinstance(found, ByNumber) else found


def weighted(names: Sequence[str], policy: Policy) -> Weighted:
    """Return the sum of several rewards, each written NAME or WEIGHT*NAME.

    Raises:
        SettingsError: none is given, one is given twice, or a weight is no number.
        ModelError: a model cannot be loaded.
    """
    if not names:
        raise SettingsError("no reward: give --reward NAME, for example reward:runs/rm")
    parts: dict[str, float] = {}
    for text in names:
        weight, star, name = text.partition("*")
        if not star:
            weight, name = "1", text
        if name in parts:
            raise SettingsError(f"reward '{name}' is given twice")
        try:
            parts[name] = float(weight)
        except ValueError:
            raise SettingsError(
                f"reward '{text}': '{weight}' is no weight; write WEIGHT*NAME, as 0.5*refusal"
            ) from None
    made = tuple((weight, reward_named(name, policy)) for name, weight in parts.items())
    if len({reward.name for _, reward in made}) < len(made):
        raise DataError("two rewards have one name; name their models by different folders")
    return Weighted(made)
