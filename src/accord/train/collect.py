"""Answers sampled to some prompts, with what every judge gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from accord.models.rollout import Rollout, generate
from accord.models.sampling import Sampling
from accord.objectives.lagrangian import Multiplier
from accord.scorers.as_reward import Combined, Given, Reward
from accord.train.samples import Sample
from accord.types import Prompt, Transcript, last_user_text


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt that answers are sampled to, as the model reads it."""

    prompt: Prompt
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judges:
    """What rewards, what it costs (a limit on its mean, held by a multiplier), and what watches and never trains."""

    reward: Combined
    cost: Reward | None = None
    multiplier: Multiplier | None = None
    watcher: Reward | None = None


# Prompts, their keys, the ids that end an answer, and how to sample; to answers in the same order.
Answer = Callable[[Sequence[Sequence[int]], Sequence[str], frozenset[int], Sampling], list[Rollout]]


@dataclass(frozen=True, slots=True)
class Source:
    """The model that answers, and how many optimiser steps it has made; `served` answers in its place, elsewhere."""

    model: nn.Module
    end_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str]
    version: int = 0
    served: Answer | None = None

    def answer(self, asked: Sequence[Asked], group: int, sampling: Sampling, name: str = "") -> list[Rollout]:
        """Return `group` answers to each prompt, a prompt's together; `name` stands before their keys, which make their luck."""
        ids = [a.ids for a in asked for _ in range(group)]
        keys = _keys(asked, group, name)
        if self.served is not None:
            return self.served(ids, keys, self.end_ids, sampling)
        return generate(self.model, ids, keys, self.end_ids, sampling, decode=self.decode)


def collect(
    source: Source, judges: Judges, asked: Sequence[Asked], group: int, sampling: Sampling, name: str = ""
) -> list[Sample]:
    """Return `group` answers to each prompt, a prompt's together, with what each reward and watcher gives them and `rewarded`.

    `name` stands before their keys, which make their luck.
    """
    rollouts = source.answer(asked, group, sampling, name)
    return rewarded(scored(source, judges, asked, group, rollouts, name), judges, asked)


def scored(
    source: Source, judges: Judges, asked: Sequence[Asked], group: int, rollouts: Sequence[Rollout], name: str = ""
) -> list[Sample]:
    """As `collect`, of answers that are there, and without the one reward that is learned from: that may depend on all answers of a
    step.
    """
    rows = [a for a in asked for _ in range(group)]
    keys = _keys(asked, group, name)
    texts = [source.decode(r.ids) for r in rollouts]
    transcripts = [_transcript(a.prompt, text) for a, text in zip(rows, texts, strict=True)]
    asks = [*judges.reward.rewards, *(r for r in (judges.cost, judges.watcher) if r is not None)]
    given = {reward.name: reward.of(transcripts) for reward in asks}
    return [
        Sample(
            prompt=a.prompt.id,
            key=key,
            version=source.version,
            ids=r.ids,
            logps=r.logps,
            truncated=r.truncated,
            text=text,
            scores={name: column[i].value for name, column in given.items()},
            unscored={name: column[i].reason for name, column in given.items() if column[i].value is None},
            reward=None,
        )
        for i, (a, key, r, text) in enumerate(zip(rows, keys, rollouts, texts, strict=True))
    ]


def rewarded(samples: Sequence[Sample], judges: Judges, asked: Sequence[Asked]) -> list[Sample]:
    """Return scored answers with the one reward that is learned from."""
    prompts = {a.prompt.id: a.prompt for a in asked}
    given = [{name: Given(value, s.unscored.get(name, "")) for name, value in s.scores.items()} for s in samples]
    found = judges.reward.together(given, [_transcript(prompts[s.prompt], s.text) for s in samples])
    return [replace(s, reward=g.value) for s, g in zip(samples, found, strict=True)]


def _keys(asked: Sequence[Asked], group: int, name: str) -> list[str]:
    return [f"{name}{a.prompt.id}/{k}" for a in asked for k in range(group)]


def _transcript(prompt: Prompt, text: str) -> Transcript:
    return Transcript(prompt.messages, text.strip(), prompt.kind, prompt.clause, last_user_text(prompt.messages))
