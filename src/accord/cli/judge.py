"""`accord judge calibrate`: how far a scorer agrees with people."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from accord.cli.options import JUDGE_HELP
from accord.errors import InputError, NotMeasuredError, nearest
from accord.types import Estimate


def judge_calibrate(
    scorer: str = typer.Argument(..., help=f"The scorer: {JUDGE_HELP}"),
    labels: list[Path] = typer.Option(..., help="Answers labelled by people: XSTest's CSV, or JSONL; may be repeated."),
    question: str = typer.Option("refusal", help="What people were asked: refusal, objective or harm."),
    policy: str = typer.Option("", help="The policy whose rubrics a judge uses; the starter policy if none."),
    out: Path | None = typer.Option(None, help="Where the calibration is kept; Accord's cache unless given."),
    html: Path | None = typer.Option(None, help="Also write a page of it here."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Hold a scorer against labels by people, beside people among themselves and keywords, and keep what was measured."""
    from accord.policy import load_policy
    from accord.scorers.calibration import calibrate
    from accord.scorers.calibration_record import as_json, save_calibration
    from accord.scorers.labels import QUESTIONS, read_labels
    from accord.scorers.named import scorer_named
    from accord.starter import policy_path

    asked = next((q for q in QUESTIONS if q == question), None)
    if asked is None:
        raise InputError(
            f"question '{question}' unknown{nearest(question, QUESTIONS)}; there are: {', '.join(QUESTIONS)}"
        )
    judge = scorer_named(scorer, load_policy(policy or policy_path()))
    result = calibrate(judge, [row for path in labels for row in read_labels(path, asked)], asked)
    if result.measured.agreement.value is None:
        raise NotMeasuredError(f"{', '.join(map(str, labels))}: not one row could be compared")
    saved = save_calibration(result, out)
    if html is not None:
        from accord.report.calibration_page import write_page

        write_page(result, html)
    if json_:
        print(json.dumps(as_json(result)))
        return
    partial = f", {result.n_partial_by_people} partial by people and left apart" if asked == "refusal" else ""
    print(f"{result.scorer} ({result.config_hash}) on {', '.join(result.labels)}: {result.n_rows} rows{partial}")
    for name, raters in (("scorer", result.measured), ("keywords", result.keywords)):
        _show(f"{name}: agreement with people", raters.agreement)
        _show(f"{name}: sensitivity", raters.sensitivity)
        _show(f"{name}: specificity", raters.specificity)
        _show(f"{name}: Cohen's kappa", raters.kappa)
        _show(f"{name}: Krippendorff's alpha", raters.alpha)
    if result.humans is None:
        print("  people among themselves: not measured, no row has two raters")
    else:
        _show("people: pairs who agree", result.humans.agreement)
        _show("scorer: agreement on those rows", result.humans.scorer)
        _show("people: Cohen's kappa", result.humans.kappa)
        _show("people: Krippendorff's alpha", result.humans.alpha)
    for stratum in result.strata:
        _show(f"{stratum.of} {stratum.name}", stratum.agreement)
    for (label, outcome), n in sorted(result.confusion.items()):
        print(f"  people: {label:<9} scorer: {outcome:<10} {n}")
    print(f"Kept in {saved}" + (f"; page in {html}" if html else ""))


def _show(name: str, e: Estimate) -> None:
    value = f"no value: {e.method}" if e.value is None else f"{e.value:.3f}"
    span = f" [{e.low:.3f}, {e.high:.3f}]" if e.low is not None and e.high is not None else ""
    print(f"  {name:<42} {value}{span}  n = {e.n}, {e.n_unscored} unscored")


COMMANDS = (judge_calibrate,)
