"""A finished evaluation as Inspect logs, one a suite: a log of Inspect is one task.

Left out: suites without an answer that a scorer read (choices compared by likelihood, problems with an answer key, what was
measured elsewhere). A task of Inspect has written its own log already.
"""

from __future__ import annotations

from pathlib import Path

from accord.data.records import read_attempts
from accord.evals.inspect_logs import write_inspect_log
from accord.policy.schema import Policy


def export_logs(run: Path, target: Path, model: str, policy: Policy) -> dict[str, Path]:
    """Write `SUITE.eval` into `target` for each suite of a run whose answers were scored, and return the paths by suite.

    Raises:
        DataError: a file of the run is malformed.
        PolicyError: a harmful prompt cites a hazard that the policy lacks.
    """
    found = {path.parent.name: path for path in sorted(run.glob("stages/*/attempts-*.jsonl"))}
    return {
        suite: write_inspect_log(target / f"{suite}.eval", read_attempts(path), suite, model, policy)
        for suite, path in found.items()
    }
