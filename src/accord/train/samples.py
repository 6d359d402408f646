"""What an online run samples in one step, with its scores: one JSON object an answer, in one file a step.

Floats are written so that they read back as the same bits: a run that is gone on with takes its rollouts from these files.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from accord.data.jsonl import read_rows, write_rows
from accord.errors import DataError

ROLLOUTS = "rollouts"


def step_file(folder: Path, step: int) -> Path:
    """Return where the samples of a step stand."""
    return folder / ROLLOUTS / f"step-{step:05d}.jsonl"


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer. `prompt` is the prompt's id, `version` the number of optimiser steps that the model had made.

    `logps` are those of the engine that sampled. `scores` are by reward, and by what watches; None where there is no score, with a
    reason in `unscored`. `reward` is what is learned from, None where the answer is left out.
    """

    prompt: str
    key: str
    version: int
    ids: tuple[int, ...]
    logps: tuple[float, ...]
    truncated: bool
    text: str
    scores: Mapping[str, float | None]
    unscored: Mapping[str, str]
    reward: float | None


def write_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write a step's samples, whole or not at all."""
    write_rows(path, (asdict(s) for s in samples))


def read_samples(path: Path) -> list[Sample]:
    """Read what `write_samples` wrote.

    Raises:
        DataError: the file is damaged, or a token has no log-probability; row and position are named.
    """
    try:
        return [_sample(row.data, f"{path}:{row.line}") for row in read_rows(path)]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no file of samples ({error}); remove it, and its step is sampled again") from error


def _sample(row: Mapping[str, Any], where: str) -> Sample:
    sample = Sample(**{**row, "ids": tuple(row["ids"]), "logps": tuple(row["logps"])})
    wrong = [k for k, logp in enumerate(sample.logps) if not isinstance(logp, float) or not math.isfinite(logp)]
    if wrong or len(sample.ids) != len(sample.logps):
        at = wrong[0] if wrong else min(len(sample.ids), len(sample.logps))
        raise DataError(
            f"{where}: answer '{sample.key}' has no log-probability at position {at}; remove the file to sample anew"
        )
    return sample


def means_by_prompt(samples: Sequence[Sample], values: Sequence[float | None]) -> dict[str, float]:
    """Return each prompt's mean of its answers' values, where it has any: the answers to one prompt are not independent."""
    found: dict[str, list[float]] = {}
    for s, value in zip(samples, values, strict=True):
        if value is not None:
            found.setdefault(s.prompt, []).append(value)
    return {prompt: fmean(own) for prompt, own in found.items()}


def reasons_unscored(samples: Iterable[Sample], name: str) -> dict[str, int]:
    """Return why answers have no score of this name, and how many each."""
    return dict(Counter(s.unscored[name] for s in samples if name in s.unscored))


def repetition(ids: Sequence[int], n: int = 4) -> float | None:
    """Return the share of an answer's runs of `n` tokens that it has said before; None where it has no such run."""
    runs = Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))
    return None if not runs else 1 - len(runs) / runs.total()


def measured_of(samples: Sequence[Sample]) -> dict[str, float]:
    """Return what one watches of answers: means over those that have a value, and what share was cut or could not be scored."""
    measured = {
        "tokens": fmean(len(s.ids) for s in samples),
        "truncated": fmean(s.truncated for s in samples),
        "unscored": fmean(s.reward is None for s in samples),
    }
    values = {
        "reward": [s.reward for s in samples],
        "repetition": [repetition(s.ids) for s in samples],
        **{f"score/{name}": [s.scores[name] for s in samples] for name in samples[0].scores},
    }
    for name, own in values.items():
        if there := [v for v in own if v is not None]:
            measured[name] = fmean(there)
    return measured
