"""Any scorer as a reward: one number a transcript, the higher the better, or none, with the reason.

What could not be judged has no reward. It is never 0: a judge that fails would otherwise teach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from accord.errors import DataError, SettingsError
from accord.objectives.combined_reward import piecewise
from accord.policy import Policy
from accord.resolve import resolve
from accord.scorers.endpoint import EndpointScorer
from accord.scorers.named import scorer_named
from accord.scorers.reward import RewardScorer
from accord.scorers.scorer import Scorer
from accord.scorers.selfcheck import require_trusted
from accord.types import Score, Transcript, acceptable

LLAMA2 = "llama2:"


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


class Combined(Protocol):
    """Several rewards as the one that is learned from."""

    @property
    def name(self) -> str:
        """What is shown."""

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards that it is made of."""

    def together(self, given: Sequence[Mapping[str, Given]], transcripts: Sequence[Transcript]) -> list[Given]:
        """Return one reward a transcript of what each of them gave, by name; where one it needs gave none, there is none."""


@dataclass(frozen=True, slots=True)
class Weighted:
    """A sum of rewards with weights."""

    parts: tuple[tuple[float, Reward], ...]

    @property
    def name(self) -> str:
        """The parts', with their weights."""
        if len(self.parts) == 1 and self.parts[0][0] == 1:
            return self.parts[0][1].name
        return " + ".join(f"{weight:g} * {reward.name}" for weight, reward in self.parts)

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """The rewards that it is made of."""
        return tuple(reward for _, reward in self.parts)

    def together(self, given: Sequence[Mapping[str, Given]], transcripts: Sequence[Transcript]) -> list[Given]:
        """Return the sums."""
        return [self._sum(own) for own in given]

    def _sum(self, given: Mapping[str, Given]) -> Given:
        total = 0.0
        for weight, reward in self.parts:
            one = given[reward.name]
            if one.value is None:
                return Given(None, f"{reward.name}: {one.reason}")
            total += weight * one.value
        return Given(total)


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Llama 2's: safety's reward where the prompt asks for safety or the answer is unsafe, else helpfulness's; whitened.

    Both are logits of preference models, which `weights` bring to one scale: two models may tell answers apart by very different
    numbers. A harmful or a contrast prompt asks for safety. The mean and the deviation are those of all transcripts that are
    combined together.
    """

    safety: Reward
    helpfulness: Reward
    weights: tuple[float, float] = (1.0, 1.0)

    @property
    def name(self) -> str:
        """Both names, with their weights where they have any."""
        parts = (r.name if w == 1 else f"{w:g} * {r.name}" for w, r in zip(self.weights, self.rewards, strict=True))
        return f"Llama 2's combination of {' and '.join(parts)}"

    @property
    def rewards(self) -> tuple[Reward, ...]:
        """Safety's and helpfulness's."""
        return (self.safety, self.helpfulness)

    def together(self, given: Sequence[Mapping[str, Given]], transcripts: Sequence[Transcript]) -> list[Given]:
        """Return the combinations."""
        found: list[Given] = []
        both: list[tuple[int, float, float]] = []
        for i, own in enumerate(given):
            lacking = next((r.name for r in self.rewards if own[r.name].value is None), "")
            found.append(Given(None, f"{lacking}: {own[lacking].reason}" if lacking else ""))
            s, h = own[self.safety.name].value, own[self.helpfulness.name].value
            if s is not None and h is not None:
                both.append((i, s, h))
        if both:
            safety_S, helpfulness_S = (
                w * torch.tensor([row[k] for row in both]) for k, w in enumerate(self.weights, 1)
            )
            asks_S = torch.tensor([transcripts[i].kind in ("harmful", "contrast") for i, _, _ in both])
            for (i, _, _), value in zip(both, piecewise(safety_S, helpfulness_S, asks_S).tolist(), strict=True):
                found[i] = Given(value)
        return found


def reward_named(name: str, policy: Policy) -> Reward:
    """Return a reward: `reward:RUN`, `cost:RUN` (turned round), FILE.py:NAME, an http(s) address, or a judge's name.

    With `,border=NUMBER` behind it a reward or cost model is a judge: what counts is on which side an answer lies.

    Raises:
        SettingsError: there is no such reward.
        ModelError: its model cannot be loaded.
        NotMeasuredError: it is a judge that fails cases whose verdict is known.
    """
    kind, _, of = name.partition(":")
    if kind in ("reward", "cost") and ",border=" not in of:
        from accord.models.reward import load_reward_model

        if not of:
            raise SettingsError(f"reward '{name}' names no model; write {kind}:RUN, with a run's folder or a hub id")
        return ByNumber(RewardScorer(load_reward_model(of), kind), 1 if kind == "reward" else -1)  # type: ignore[arg-type]
    if ".py:" in name:
        return ByFunction(name, resolve("accord.scorers", name))
    scorer = scorer_named(name, policy)
    if isinstance(scorer, EndpointScorer):
        return ByNumber(scorer)
    # A judge teaches its errors: it must get plain cases right before anything is learned from it.
    require_trusted(scorer, policy)
    return ByVerdict(scorer, policy)


def cost_named(name: str, policy: Policy) -> Reward:
    """Return what an answer costs, the higher the worse: `cost:RUN`, a function, or 1 where a judge does not accept it.

    Raises:
        SettingsError: there is no such scorer, or it is a reward model, whose zero is no border.
        ModelError: its model cannot be loaded.
        NotMeasuredError: it is a judge that fails cases whose verdict is known.
    """
    if name.startswith("reward:"):
        raise SettingsError(f"'{name}' rewards; a cost is a cost model (cost:RUN), a function, or a judge's name")
    found = reward_named(name, policy)
    if isinstance(found, ByVerdict):
        return Failing(found)
    return replace(found, sign=1) if isinstance(found, ByNumber) else found


def combined(names: Sequence[str], policy: Policy) -> Combined:
    """Return what several names are together: a sum, each NAME or WEIGHT*NAME; or `llama2:SAFETY,HELPFULNESS`, two reward models,
    each RUN or WEIGHT*RUN.

    Raises:
        SettingsError: none is given, one is given twice, a weight is no number, or Llama 2's combination stands beside others.
        ModelError: a model cannot be loaded.
        NotMeasuredError: one is a judge that fails cases whose verdict is known.
    """
    if not any(name.startswith(LLAMA2) for name in names):
        return _weighted(names, policy)
    safety, comma, helpfulness = names[0].removeprefix(LLAMA2).partition(",")
    if len(names) > 1 or not (safety and comma and helpfulness):
        raise SettingsError(
            f"rewards {', '.join(names)}: write {LLAMA2}SAFETY,HELPFULNESS, two reward models' runs, and no other reward beside it"
        )
    (first, safety), (second, helpfulness) = map(_with_weight, (safety, helpfulness))
    return Piecewise(
        reward_named(f"reward:{safety}", policy), reward_named(f"reward:{helpfulness}", policy), (first, second)
    )


def _weighted(names: Sequence[str], policy: Policy) -> Weighted:
    if not names:
        raise SettingsError("no reward: give --reward NAME, for example reward:runs/rm")
    parts: dict[str, float] = {}
    for text in names:
        weight, name = _with_weight(text)
        if name in parts:
            raise SettingsError(f"reward '{name}' is given twice")
        parts[name] = weight
    made = tuple((weight, reward_named(name, policy)) for name, weight in parts.items())
    if len({reward.name for _, reward in made}) < len(made):
        raise DataError("two rewards have one name; name their models by different folders")
    return Weighted(made)


def _with_weight(text: str) -> tuple[float, str]:
    weight, star, name = text.partition("*")
    if not star:
        return 1.0, text
    try:
        return float(weight), name
    except ValueError:
        raise SettingsError(f"reward '{text}': '{weight}' is no weight; write WEIGHT*NAME, as 0.5*refusal") from None
