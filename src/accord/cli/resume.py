"""`accord resume`: do what is missing of a run."""

from __future__ import annotations

from pathlib import Path

import typer

from accord.cli import redteam
from accord.cli.align import GATE_HELP, RUNS, start
from accord.cli.options import Track


def resume(
    run: Path = typer.Argument(None, help="The run's folder; the latest under runs/ if none."),
    track: Track = [],  # noqa: B006 (Typer reads it)
    gate: bool = typer.Option(False, "--gate", help=GATE_HELP),
    json_: bool = typer.Option(False, "--json", help="Print the run's manifest as JSON at the end."),
) -> None:
    """Go on with an interrupted run; what is finished is not done again."""
    from accord.recipes import red_team
    from accord.recipes.settings import settings_from
    from accord.runs.folder import latest_run, read_run

    folder = run or latest_run(RUNS)
    asked = read_run(folder).asked
    if asked.get("verb") == red_team.VERB:
        redteam.start(folder, red_team.settings_from(asked), json_)
    else:
        start(folder, settings_from(asked), False, gate, json_, track)
