"""The judged answers of a finished evaluation, read back from its folder."""

from __future__ import annotations

from pathlib import Path

from accord.data.records import read_attempts
from accord.errors import DataError
from accord.evals.results import RESULTS
from accord.types import Attempt


def judged_answers(run: Path) -> dict[str, list[Attempt]]:
    """Return the answers that a scorer read, by suite; suites without such answers are not among them.

    Raises:
        DataError: the folder holds no finished `accord eval`, or a file of it is malformed.
    """
    if not (run / RESULTS).exists():
        raise DataError(f"{run} holds no {RESULTS}; expected the folder of an `accord eval`")
    return {path.parent.name: read_attempts(path) for path in sorted(run.glob("stages/*/attempts-*.jsonl"))}
