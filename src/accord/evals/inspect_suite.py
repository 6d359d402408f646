"""A task of Inspect as a suite: it asks by itself, so that its result is added to an evaluation when its own log is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from accord.errors import NotMeasuredError, SettingsError
from accord.evals.results import Evaluation, ItemResult, SuiteResult, write_results
from accord.models.precision import Precision
from accord.models.sampling import Sampling
from accord.scorers.scorer import Scorer
from accord.types import UNCALIBRATED, Outcome

PREFIX = "inspect:"


def add_inspect(
    evaluation: Evaluation,
    tasks: Sequence[str],
    folder: Path,
    scorer: Scorer,
    limit: int,
    sampling: Sampling,
    precision: Precision = "auto",
) -> Evaluation:
    """Run `inspect:FILE.py@TASK` tasks on the evaluation's model and return it with a result a task and scorer, written.

    The evaluation's system prompt, and seed and temperature of `sampling`, hold for them too; an answer's length is the task's.

    Raises:
        SettingsError: inspect-ai, or the part of Accord that runs its tasks, is not installed.
        DataError: there is no such task.
    """
    results, skipped = list(evaluation.results), dict(evaluation.skipped)
    for text in tasks:
        task = text.removeprefix(PREFIX)
        try:
            run_inspect = import_module("accord.evals.inspect_tasks").run_inspect
        except ImportError as error:
            raise SettingsError(f"--suite {text} cannot be run: {error}; run: pip install inspect-ai") from error
        name = task.rsplit("@", 1)[-1]
        try:
            found = run_inspect(
                task,
                evaluation.model,
                folder / "inspect" / name,
                scorer,
                limit=limit or None,
                seed=sampling.seed,
                system=evaluation.system,
                temperature=sampling.temperature,
                precision=precision,
            )
        except NotMeasuredError as why:
            skipped[name] = str(why)
            continue
        results += [_result(found, grader, name) for grader in found.scorers]
    evaluation = replace(evaluation, results=tuple(results), skipped=skipped)
    write_results(folder, evaluation)
    return evaluation


def _result(found: Any, grader: str, suite: str) -> SuiteResult:
    failed = {a.id for a in found.attempts if a.score.outcome is Outcome.ERROR}
    items = [
        ItemResult(g.attempt_id, g.family, g.value, g.reason, error=g.attempt_id in failed)
        for g in found.grades
        if g.scorer == grader
    ]
    items += [ItemResult(f"missing {i}", f"missing {i}", None, "never run", error=True) for i in range(found.missing)]
    return SuiteResult(
        suite, grader, True, tuple(items), "samples that were graded", f"Inspect, {found.log}", "the task's own",
        scorer=f"Inspect's {grader}", calibration=UNCALIBRATED, note=found.status if found.status != "complete" else "",
    )  # fmt: skip
