"""Answers sampled to some prompts, with what every judge gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.objectives.lagrangian import Multiplier
from accord.scorers.as_reward import Given, Reward, Weighted
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

    reward: Weighted
    cost: Reward | None = None
    multiplier: Multiplier | None = None
    watcher: Reward | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The model that answers, and how many optimiser steps it has made."""

    model: nn.Module
    end_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str]
    version: int = 0


def collect(
    source: Source, judges: Judges, asked: Sequence[Asked], group: int, sampling: Sampling, name: str = ""
) -> list[Sample]:
    """Return `group` scored answers to each prompt, a prompt's together. `name` stands before their keys, which make their luck."""
    rows = [a for a in asked for _ in range(group)]
    keys = [f"{name}{a.prompt.id}/{k}" for a in asked for k in range(group)]
    rollouts = generate(source.model, [a.ids for a in rows], keys, source.end_ids, sampling, decode=source.decode)
    texts = [source.decode(r.ids) for r in rollouts]
    given = _scores(judges, [_transcript(a.prompt, text) for a, text in zip(rows, texts, strict=True)])
    return [
        Sample(
            prompt=a.prompt.id,
            key=key,
            version=source.version,
            ids=r.ids,
            logps=r.logps,
            truncated=r.truncated,
            text=text,
            scores={name: g.value for name, g in own.items()},
            unscored={name: g.reason for name, g in own.items() if g.value is None},
            reward=judges.reward.together(own).value,
        )
        for a, key, r, text, own in zip(rows, keys, rollouts, texts, given, strict=True)
    ]


def _scores(judges: Judges, transcripts: Sequence[Transcript]) -> list[dict[str, Given]]:
    found = [dict(own) for own in judges.reward.by_part(transcripts)]
    for reward in (judges.cost, judges.watcher):
        if reward is not None:
            for own, given in zip(found, reward.of(transcripts), strict=True):
                own[reward.name] = given
    return found


def _transcript(prompt: Prompt, text: str) -> Transcript:
    return Transcript(prompt.messages, text.strip(), prompt.kind, prompt.clause, last_user_text(prompt.messages))
