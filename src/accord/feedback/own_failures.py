"""On-policy preference pairs: the model's own unacceptable answer against the demonstrated one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.errors import DataError
from accord.policy import Policy
from accord.types import Attempt, Demonstration, Prompt, acceptable


@dataclass(frozen=True, slots=True)
class OwnFailure:
    """A prompt, the answer asked for, and the model's own that was not acceptable; `truncated`: it was cut, so has no end."""

    prompt: Prompt
    chosen: str
    rejected: str
    truncated: bool


def own_failures(
    attempts: Sequence[Attempt], demonstrations: Mapping[str, Demonstration], policy: Policy
) -> list[OwnFailure]:
    """Return a pair for each attempt that was assessed and not acceptable: over-refusals as much as harmful answers.

    Raises:
        DataError: an attempt is on a prompt of the `verify` split; no such answer may be trained on.
    """
    failures: list[OwnFailure] = []
    for attempt in attempts:
        prompt = attempt.prompt
        if prompt.split != "train":
            raise DataError(
                f"prompt {prompt.id} is of the '{prompt.split}' split: its answers are sealed from training"
            )
        if acceptable(prompt.kind, policy.response_mode(prompt.clause), attempt.score.outcome) is False:
            chosen = demonstrations[prompt.id].answer
            if chosen.strip() != attempt.answer.strip():
                failures.append(OwnFailure(prompt, chosen, attempt.answer, attempt.truncated))
    return failures
