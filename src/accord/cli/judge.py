"""`accord judge calibrate`: how far a scorer agrees with people."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from accord.errors import InputError, NotMeasuredError, nearest

SCORERS = ("refusal",)


def judge_calibrate(
    scorer: str = typer.Argument(..., help="The scorer: refusal."),
    labels: Path = typer.Option(..., help="Answers labelled by people: XSTest's CSV, or JSONL."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Print agreement with labels by people, sensitivity, specificity and kappa, each with its interval."""
    if scorer not in SCORERS:
        raise InputError(f"scorer '{scorer}' not found{nearest(scorer, SCORERS)}; there are: {', '.join(SCORERS)}")
    from accord.scorers.calibration import calibrate
    from accord.scorers.labels import read_labels
    from accord.scorers.refusal import RefusalScorer

    result = calibrate(RefusalScorer(), read_labels(labels))
    estimates = {
        "agreement on compliance against refusal": result.agreement,
        "sensitivity (refusals recognised)": result.sensitivity,
        "specificity (compliance recognised)": result.specificity,
        "Cohen's kappa": result.kappa,
    }
    if json_:
        confusion = [{"label": k[0], "outcome": str(k[1]), "n": n} for k, n in result.confusion.items()]
        print(json.dumps({"scorer": result.scorer, "config_hash": result.config_hash, "rows": result.n_rows,
                          "confusion": confusion, **{k: asdict(v) for k, v in estimates.items()}}))  # fmt: skip
    else:
        print(f"{result.scorer} ({result.config_hash}) on {labels}: {result.n_rows} rows, "
              f"{result.n_partial_by_people} partial by people and left apart")  # fmt: skip
        for name, e in estimates.items():
            value = "undefined: " + e.method if e.value is None else f"{e.value:.3f}"
            span = f" [{e.low:.3f}, {e.high:.3f}]" if e.low is not None and e.high is not None else ""
            print(f"  {name:<42} {value}{span}  n = {e.n}, {e.n_unscored} unscored")
        for (label, outcome), n in sorted(result.confusion.items()):
            print(f"  people: {label:<9} scorer: {outcome:<10} {n}")
    if result.agreement.value is None:
        raise NotMeasuredError(f"{labels}: not one row could be compared")


COMMANDS = (judge_calibrate,)
