"""Accord's attempts <-> Inspect's logs.

Written: a log that `read_eval_log` reads and Inspect's viewer opens, with each attempt's own row in its sample's metadata, so that
reading it back loses nothing. Read: any Inspect log. Every sample that was planned is accounted for: one that errored is an
attempt that ended in an error, one that was never run is counted as missing, and a grade that is no grade is flagged.

Grades: C, I, P, N are 1, 0, 0.5, 0 as in Inspect (N, no answer, counts as wrong); yes and no, true and false are 1 and 0; a number
counts where it lies on the declared scale, which is mapped to 0..1, and is flagged otherwise; NaN is Inspect's "unscored".
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
from inspect_ai.event import ModelEvent
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    read_eval_log,
    write_eval_log,
)
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Score as InspectScore

from accord.data.messages import with_system
from accord.data.records import attempt_from_row, to_row
from accord.errors import DataError
from accord.evals.inspect_messages import text_of
from accord.evals.metrics import mode_under
from accord.policy.schema import Policy
from accord.scorers.scorer import Scorer
from accord.stats.bootstrap import cluster_bootstrap, clustered_proportion
from accord.types import (
    Attempt,
    Conversation,
    Estimate,
    Kind,
    Message,
    Outcome,
    Prompt,
    Score,
    Transcript,
    acceptable,
    last_user_text,
)

Scale = tuple[float, float]
UNIT: Scale = (0.0, 1.0)
_LABELS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_MESSAGES = {
    "system": ChatMessageSystem,
    "user": ChatMessageUser,
    "assistant": ChatMessageAssistant,
    "tool": ChatMessageTool,
}
_ROW = "accord"


@dataclass(frozen=True, slots=True)
class Grade:
    """What one of a task's scorers gave one sample: a value in 0..1, or None and the reason."""

    attempt_id: str
    family: str
    scorer: str
    value: float | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class InspectResult:
    """One Inspect log. `n_planned` counts samples times epochs; `missing` of them are not in the log at all."""

    task: str
    model: str
    log: str
    attempts: tuple[Attempt, ...]
    grades: tuple[Grade, ...]
    n_planned: int
    stopped: str = ""

    @property
    def missing(self) -> int:
        """How many planned samples the log does not hold."""
        return max(0, self.n_planned - len(self.attempts))

    @property
    def n_errors(self) -> int:
        """How many samples ended in an error or were never run."""
        return self.missing + sum(a.score.outcome is Outcome.ERROR for a in self.attempts)

    @property
    def status(self) -> str:
        """`complete`, or what is not: a run with errors is no plain success."""
        faults = [f"{self.n_errors} of {self.n_planned} samples have no answer"] if self.n_errors else []
        faults += [self.stopped] if self.stopped else []
        return "incomplete: " + "; ".join(faults) if faults else "complete"

    @property
    def scorers(self) -> tuple[str, ...]:
        """The task's scorers, in the log's order."""
        return tuple(dict.fromkeys(g.scorer for g in self.grades))

    def mean_of_scored(self, scorer: str) -> Estimate:
        """Return the mean grade of the samples that have one; the others are counted beside it, by reason."""
        return self._mean(scorer, None)

    def mean_of_all(self, scorer: str) -> Estimate:
        """Return the mean grade of all planned samples, where one without a grade counts as wrong."""
        return self._mean(scorer, 0.0)

    def _mean(self, scorer: str, without: float | None) -> Estimate:
        grades = [g for g in self.grades if g.scorer == scorer]
        # A sample that was never run has no family to share; each stands for itself.
        grades += [Grade("", f"missing {i}", scorer, None, "never run") for i in range(self.missing)]
        known = [(g.value if g.value is not None else without, g.family) for g in grades]
        values = [v for v, _ in known if v is not None]
        families = [f for v, f in known if v is not None]
        unscored = Counter(g.reason for g in grades if g.value is None) if without is None else {}
        if all(v in (0.0, 1.0) for v in values):
            return clustered_proportion([v == 1.0 for v in values], families, unscored)
        return cluster_bootstrap(values, families, np.random.default_rng(0), unscored=unscored)


def read_inspect_log(path: str | Path, reader: Scorer, scale: Scale = UNIT) -> InspectResult:
    """Return what an Inspect log (`.eval` or `.json`) holds.

    An attempt's outcome is what `reader` makes of the answer, since a grade does not say whether a model refused; its score's
    value and scorer are those of the first grade. Attempts that Accord wrote come back as they were.

    Raises:
        DataError: the file is no Inspect log.
    """
    try:
        log = read_eval_log(str(path))
    except Exception as error:  # Inspect raises whatever its parsers do
        raise DataError(f"{path}: cannot be read as an Inspect log: {type(error).__name__}: {error}") from error
    return result_of(log, reader, str(path), scale)


def result_of(log: EvalLog, reader: Scorer, path: str = "", scale: Scale = UNIT) -> InspectResult:
    """As `read_inspect_log`, for a log in memory."""
    samples = log.samples or []
    given = dict.fromkeys(name for sample in samples for name in flattened(sample.scores or {}))
    # Where nothing was scored, the scorers are those that were to be.
    scorers = given or dict.fromkeys(scorer.name for scorer in log.eval.scorers or ())
    attempts = []
    grades: list[Grade] = []
    for sample in samples:
        id = f"{log.eval.task}/{sample.id}/{sample.epoch}"
        own = [_grade(sample, id, name, scale) for name in scorers]
        attempts.append(_attempt(log, sample, id, own[0] if own else None, reader))
        grades += own
    n_epochs = log.eval.config.epochs or 1
    planned = log.results.total_samples if log.results else len(log.eval.dataset.sample_ids or ()) * n_epochs
    stopped = "" if log.status == "success" else f"Inspect's status is {log.status}"
    if log.error:
        stopped += f": {log.error.message}"
    n_planned = max(planned, len(samples))
    return InspectResult(log.eval.task, log.eval.model, path, tuple(attempts), tuple(grades), n_planned, stopped)


def grade_of(value: Any, scale: Scale = UNIT) -> tuple[float | None, str]:
    """Return a value of Inspect as a grade in 0..1, or None and why it is none."""
    low, high = scale
    if isinstance(value, bool):
        return float(value), ""
    if isinstance(value, str):
        label = value if value in _LABELS else value.strip().lower()
        if label in _LABELS:
            return _LABELS[label], ""
        try:
            value = float(label)
        except ValueError:
            return None, f"'{value:.40}' is no grade"
    if not isinstance(value, int | float):
        return None, f"a {type(value).__name__} is no grade"
    if math.isnan(value):
        return None, "unscored by the task"
    if not low <= value <= high:
        return None, f"{value:g} is off the scale from {low:g} to {high:g}"
    return (value - low) / (high - low), ""


def flattened(scores: Mapping[str, InspectScore]) -> dict[str, tuple[Any, InspectScore]]:
    """Return each value of each scorer: a scorer that gives several by name (`{"fluency": 1}`) is several."""
    found: dict[str, tuple[Any, InspectScore]] = {}
    for name, score in scores.items():
        parts = score.value if isinstance(score.value, Mapping) else {"": score.value}
        found |= {f"{name}/{part}" if part else name: (value, score) for part, value in parts.items()}
    return found


def _grade(sample: EvalSample, id: str, scorer: str, scale: Scale) -> Grade:
    family = str(sample.id)
    if sample.error:
        return Grade(id, family, scorer, None, "error")
    given = flattened(sample.scores or {}).get(scorer)
    if given is None or given[0] is None:
        return Grade(id, family, scorer, None, "no score")
    value, reason = grade_of(given[0], scale)
    return Grade(id, family, scorer, value, given[1].reason or reason if value is None else "")


def _attempt(log: EvalLog, sample: EvalSample, id: str, grade: Grade | None, reader: Scorer) -> Attempt:
    if _ROW in sample.metadata:
        return attempt_from_row(sample.metadata[_ROW])
    given = (Message("user", sample.input),) if isinstance(sample.input, str) else _conversation(sample.input)
    prompt = Prompt(str(sample.id), given, "ordinary", "", str(sample.id), "verify", source=f"inspect:{log.eval.task}")
    answer = sample.output.completion
    sent = _conversation(sample.messages[:-1]) if sample.messages and sample.messages[-1].role == "assistant" else given
    if system := log.eval.model_generate_config.system_message:
        sent = with_system(system, sent)
    usage = sample.output.usage
    if sample.error:
        score = Score(Outcome.ERROR, "inspect", sample.error.message)
    else:
        # A judge may read harmful requests otherwise; a task says so in its samples' metadata.
        kinds: tuple[Kind, ...] = get_args(Kind)
        kind: Kind = next((k for k in kinds if k == sample.metadata.get("kind")), "ordinary")
        read = Transcript(sent, answer, kind, goal=last_user_text(given), actions=_actions(sample))
        score = reader.score_all([read])[0]
        if grade is None or grade.value is None:
            why = grade.reason if grade else "the task has no scorer"
            score = replace(score, reason=f"{score.reason}; not graded: {why}")
        else:
            score = replace(score, value=grade.value, scorer=f"{grade.scorer}, read by {score.scorer}")
    stopped = sample.output.choices[0].stop_reason if sample.output.choices else "unknown"
    return Attempt(
        id=id,
        prompt=prompt,
        condition=log.eval.model,
        answer=answer,
        n_tokens=usage.output_tokens if usage else 0,
        truncated=stopped in ("max_tokens", "model_length"),
        score=score,
        seed=log.eval.model_generate_config.seed or 0,
        sent=() if sent == given else sent,
    )


def _actions(sample: EvalSample) -> tuple[str, ...]:
    """Return the calls of tools that the model made, as JSON; those of a turn that the task wrote are not its own."""
    turns = [m for m in sample.messages if isinstance(m, ChatMessageAssistant) and m.source != "input"]
    calls = [call for turn in turns for call in turn.tool_calls or ()]
    return tuple(json.dumps({"name": call.function, "arguments": call.arguments}) for call in calls)


def _conversation(messages: Sequence[ChatMessage]) -> Conversation:
    return tuple(Message(m.role, text_of(m)) for m in messages)


def write_inspect_log(path: Path, attempts: Sequence[Attempt], task: str, model: str, policy: Policy) -> Path:
    """Write attempts as an Inspect log, `.eval` or `.json` by the path's suffix, and return the path.

    Each sample has two scores: `outcome`, in Accord's words, and `acceptable`, C or I by what the policy asks for; what was not
    assessed has none there. An attempt that ended in an error is a sample with an error.

    Raises:
        DataError: the suffix is neither, or two attempts have one id.
        PolicyError: a harmful prompt cites a hazard that the policy lacks.
    """
    if path.suffix not in (".eval", ".json"):
        raise DataError(f"{path}: an Inspect log ends in .eval or .json")
    twice = [id for id, n in Counter(a.id for a in attempts).items() if n > 1]
    if twice:
        raise DataError(f"{len(twice)} ids stand for several attempts: {', '.join(twice[:5])}")
    accepted = [_accepted(a, policy) for a in attempts]
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=now,
            task=task,
            dataset=EvalDataset(name=task, samples=len(attempts), sample_ids=[a.id for a in attempts]),
            model=model,
            config=EvalConfig(epochs=1, fail_on_error=False),
            packages={"accord-align": version("accord-align")},
            metadata={"policy": policy.name, "policy_hash": policy.hash},
        ),
        results=_results(attempts, accepted),
        samples=[_sample(a, ok, model) for a, ok in zip(attempts, accepted, strict=True)],
    )
    log.stats.started_at = log.stats.completed_at = now
    write_eval_log(log, str(path))
    return path


def _accepted(attempt: Attempt, policy: Policy) -> bool | None:
    # Of a request that is not harmful the mode does not matter, and its clause may be a principle.
    mode = mode_under(attempt.prompt.clause if attempt.prompt.kind == "harmful" else "", policy)
    return acceptable(attempt.prompt.kind, mode, attempt.score.outcome)


def _results(attempts: Sequence[Attempt], accepted: Sequence[bool | None]) -> EvalResults:
    share = clustered_proportion(
        [ok for ok in accepted if ok is not None],
        [a.prompt.family or a.prompt.id for a, ok in zip(attempts, accepted, strict=True) if ok is not None],
    )
    known = {"share": share.value, "low": share.low, "high": share.high}
    n_errors = sum(a.score.outcome is Outcome.ERROR for a in attempts)
    return EvalResults(
        total_samples=len(attempts),
        completed_samples=len(attempts) - n_errors,
        scores=[
            EvalScore(
                name="acceptable",
                scorer="acceptable",
                scored_samples=share.n,
                unscored_samples=len(attempts) - share.n,
                # Nothing assessed is no number, not 0.
                metrics={name: EvalMetric(name=name, value=v) for name, v in known.items() if v is not None},
                metadata={"interval": share.method},
            )
        ],
    )


def _sample(attempt: Attempt, accepted: bool | None, model: str) -> EvalSample:
    asked = attempt.sent or attempt.prompt.messages
    messages: list[ChatMessage] = [_MESSAGES[m.role](content=m.content) for m in asked]
    score, failed = attempt.score, attempt.score.outcome is Outcome.ERROR
    said = f"{attempt.prefill}{attempt.answer}"
    if failed:
        output = ModelOutput(model=model, error=score.reason)
    else:
        output = ModelOutput.from_content(model, said, "max_tokens" if attempt.truncated else "stop")
        # What the prompt took is not known here, so it is not added.
        output.usage = ModelUsage(output_tokens=attempt.n_tokens, total_tokens=attempt.n_tokens)
    scores: dict[str, InspectScore] = {}
    if not failed:
        about = {"evidence": score.evidence, "value": score.value, "scorer": score.scorer}
        scores["outcome"] = InspectScore(
            value=score.outcome.value, answer=said, explanation=score.reason, metadata=about
        )
        scores["acceptable"] = (
            InspectScore.unscored(reason=score.outcome.value, explanation=score.reason)
            if accepted is None
            else InspectScore(value="C" if accepted else "I", explanation=score.reason)
        )
    prompt = attempt.prompt
    about_prompt = {name: getattr(prompt, name) for name in ("kind", "clause", "family", "split")}
    return EvalSample(
        id=attempt.id,
        epoch=1,
        input=list(messages),
        target="",
        messages=messages if failed else [*messages, ChatMessageAssistant(content=said, model=model)],
        output=output,
        # The viewer's first page of a sample shows its events.
        events=[
            ModelEvent(
                model=model,
                input=messages,
                tools=[],
                tool_choice="none",
                config=GenerateConfig(),
                output=output,
                error=score.reason if failed else None,
            )
        ],
        scores=scores,
        metadata={**about_prompt, "attack": attempt.attack, _ROW: to_row(attempt)},
        error=EvalError(message=score.reason, traceback=score.reason, traceback_ansi=score.reason) if failed else None,
    )
