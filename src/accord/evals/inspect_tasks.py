"""Runs a task of Inspect on an Accord model, in this process, and returns what came of it as Accord's records."""

from __future__ import annotations

from pathlib import Path

import inspect_ai

from accord.errors import AccordError, DataError, GateError, NotMeasuredError
from accord.evals import inspect_provider  # noqa: F401  (registers `accord/...`)
from accord.evals.inspect_logs import UNIT, InspectResult, Scale, read_inspect_log
from accord.models.local import MAX_ROWS
from accord.models.precision import Precision
from accord.scorers.scorer import Scorer
from accord.types import Outcome


def run_inspect(
    task: str,
    model: str,
    folder: Path,
    reader: Scorer,
    limit: int | None = None,
    epochs: int | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    scale: Scale = UNIT,
    system: str = "",
    temperature: float | None = None,
    precision: Precision = "auto",
) -> InspectResult:
    """Run `FILE.py@TASK`, or a registered task, on a model by its Accord name, and return what the log says.

    The log lies in `folder`. A sample that fails does not end the run: it is counted as an error. `reader` reads the answers'
    outcomes; `scale` is what the task's numbers range over. `system` stands before what the task sends, and a `temperature` is used
    in the place of the task's own.

    Raises:
        DataError: there is no such task, or it cannot be run at all.
        NotMeasuredError: not one sample has an answer that was graded.
    """
    file, _, name = task.partition("@")
    if file.endswith(".py"):
        if not Path(file).is_file():
            raise DataError(f"'{task}': there is no file {file}")
        if not name:
            raise DataError(f"'{task}': name one task of the file, as {file}@TASK")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        logs = inspect_ai.eval(
            task,
            model=f"accord/{model}",
            model_args={"precision": precision},
            log_dir=str(folder),
            display="none",
            fail_on_error=False,
            limit=limit,
            epochs=epochs,
            max_tokens=max_tokens,
            seed=seed,
            temperature=temperature,
            system_message=system or None,
            max_connections=MAX_ROWS,
        )
    except AccordError:
        raise
    except Exception as error:  # a task's file may raise anything
        said = getattr(error, "message", error)
        raise DataError(f"'{task}' cannot be run: {type(error).__name__}: {said}") from error
    if len(logs) != 1:
        raise DataError(f"'{task}' names {len(logs)} tasks; expected one, as FILE.py@TASK")
    result = read_inspect_log(logs[0].location, reader, scale)
    if all(grade.value is None for grade in result.grades):
        why = next((a.score.reason for a in result.attempts if a.score.outcome is Outcome.ERROR), "no error is logged")
        raise NotMeasuredError(f"'{task}': no sample was graded ({result.status}; {why}); see {result.log}")
    return result


def check_errors(result: InspectResult, most: float) -> None:
    """Hold a run to a share of samples without an answer.

    Raises:
        GateError: more than `most` of the planned samples have none.
    """
    share = result.n_errors / result.n_planned if result.n_planned else 1.0
    if share > most:
        raise GateError(
            f"{result.n_errors} of {result.n_planned} samples ({share:.0%}) have no answer, where {most:.0%} are allowed; "
            f"see {result.log}"
        )
