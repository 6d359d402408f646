"""`accord compare`: two runs, item by item."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer


def compare(
    before: Path = typer.Argument(..., metavar="A", help="A run's folder: of `accord align`, `eval` or `redteam`."),
    after: Path = typer.Argument(..., metavar="B", help="Another run of the same kind."),
    policy: Path = typer.Option(None, help="The policy by which both are judged; each run's own if none."),
    difference: float = typer.Option(
        None, help="Say how many pairs finding this difference needs (0.05: 5 points); the observed one if none."
    ),
    html: Path = typer.Option(None, help="Also write the comparison as a page."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Compare two runs over the items that both were asked: differences with intervals, tests, and what is no pair."""
    from accord.errors import SettingsError
    from accord.evals.comparison import compare_runs
    from accord.policy import load_policy
    from accord.recipes.recorded import read_recorded

    if difference is not None and not 0 < abs(difference) <= 1:
        raise SettingsError(f"--difference {difference:g} is not between 0 and 1; 5 points are written 0.05")
    judged_by = load_policy(policy) if policy else None
    runs = [read_recorded(folder, judged_by) for folder in (before, after)]
    found = compare_runs(runs[0].evaluation, runs[1].evaluation, (str(before), str(after)), difference)
    if json_:
        rows = [asdict(c) | {"name": c.name, "change": c.change} for c in found.metrics]
        print(json.dumps(asdict(found) | {"metrics": rows}))
    else:
        from accord.cli.tables import print_comparison

        print_comparison(found)
    if html:
        from accord.report.comparison_page import write_comparison

        path = write_comparison(found, [run.evaluation for run in runs], html)
        if not json_:
            print(f"page: {path}")
