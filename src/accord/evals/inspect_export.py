"""A finished evaluation as Inspect logs, one a suite: a log of Inspect is one task.

Left out: suites without an answer that a scorer read (choices compared by likelihood, problems with an answer key, what was
measured elsewhere). A task of Inspect has written its own log already.
"""

from __future__ import annotations

from pathlib import Path

from accord.evals.inspect_logs import write_inspect_log
from accord.evals.judged_answers import judged_answers
from accord.policy.schema import Policy


def export_logs(run: Path, target: Path, model: str, policy: Policy) -> dict[str, Path]:
    """Write `SUITE.eval` into `target` for each suite of a run whose answers were scored, and return the paths by suite.

    Raises:
        DataError: the run is not finished, or a file of it is malformed.
        PolicyError: a harmful prompt cites a hazard that the policy lacks.
    """
    return {
        suite: write_inspect_log(target / f"{suite}.eval", attempts, suite, model, policy)
        for suite, attempts in judged_answers(run).items()
    }
