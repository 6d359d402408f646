"""`accord judge train`: a classifier from answers that people labelled; `calibrate`: how far a scorer agrees with people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord.cli.options import JUDGE_HELP, Seed, existing
from accord.errors import GateError, InputError, NotMeasuredError, SettingsError, nearest
from accord.types import Estimate

if TYPE_CHECKING:
    from accord.scorers.labels import Question

KINDS = ("embeddings", "finetuned")
Labels = Annotated[
    list[Path],
    typer.Option(callback=existing, help="Answers labelled by people: XSTest's CSV, or JSONL; may be repeated."),
]
Asked = Annotated[str, typer.Option(help="What people were asked: refusal, objective or harm.")]


def judge_train(
    labels: Labels,
    out: Path = typer.Option(..., help="Where it is kept, for --judge classifier:OUT; must be new."),
    kind: str = typer.Option(
        "embeddings", help="embeddings (a line on fixed embeddings, seconds) or finetuned (the encoder too, minutes)."
    ),
    question: Asked = "refusal",
    policy: str = typer.Option(
        "", callback=existing, help="The policy whose known cases it is tried on; the starter policy if none."
    ),
    seed: Seed = 0,
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Train a classifier on answers that people labelled; it says that an answer complied (of other questions: yes) or not.

    It is tried on known safe and unsafe answers; where it fails some it is kept, no run will trust it, and the exit code is 1.
    How well it does is measured by `accord judge calibrate`, on labels of other requests.
    """
    from accord.cli.progress import make_progress
    from accord.models.embedder import Embedder
    from accord.policy import load_policy
    from accord.runs.atomic import file_digest
    from accord.scorers.classifier import train_classifier
    from accord.scorers.finetuned import train_finetuned
    from accord.scorers.labels import as_examples, read_labels
    from accord.scorers.selfcheck import known_cases, trusted
    from accord.starter import policy_path

    asked = asked_question(question)
    if kind not in KINDS:
        raise SettingsError(f"kind '{kind}' unknown{nearest(kind, KINDS)}; there are: {', '.join(KINDS)}")
    if out.exists():
        raise InputError(f"{out} exists; name a new file or folder, or delete it")
    document = load_policy(policy or policy_path())
    rows = [row for path in labels for row in read_labels(path, asked)]
    transcripts, complied = as_examples(rows)
    trained_on = f"{asked}: " + ", ".join(f"{path.name} ({file_digest(path)[:12]})" for path in labels)
    scorer = (
        train_finetuned(transcripts, complied, trained_on, seed, make_progress())
        if kind == "finetuned"
        else train_classifier(transcripts, complied, Embedder(), trained_on)
    )
    scorer.save(out)
    failures = trusted(scorer, document)
    facts = {
        "judge": f"classifier:{out}",
        "config hash": scorer.config_hash,
        "trained on": trained_on,
        "rows": len(transcripts),
        "of these complied": sum(complied),
        "partial, left out": len(rows) - len(transcripts),
        "known cases": len(known_cases(document)),
        "known cases failed": failures,
    }
    print(json.dumps(facts) if json_ else "\n".join(f"{name}: {fact}" for name, fact in facts.items()))
    if failures:
        raise GateError(f"{out} is kept, and no run will trust it: it fails {len(failures)} known cases")


def asked_question(question: str) -> Question:
    """Return the question that people were asked; refuse another."""
    from accord.scorers.labels import QUESTIONS

    asked = next((q for q in QUESTIONS if q == question), None)
    if asked is None:
        raise InputError(
            f"question '{question}' unknown{nearest(question, QUESTIONS)}; there are: {', '.join(QUESTIONS)}"
        )
    return asked


def judge_calibrate(
    labels: Labels,
    scorer: str = typer.Argument(..., help=f"The scorer: {JUDGE_HELP}"),
    question: Asked = "refusal",
    policy: str = typer.Option(
        "", callback=existing, help="The policy whose rubrics a judge uses; the starter policy if none."
    ),
    out: Path | None = typer.Option(None, help="Where the calibration is kept; Accord's cache unless given."),
    html: Path | None = typer.Option(None, help="Also write a page of it here."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Hold a scorer against labels by people, beside people among themselves and keywords, and keep what was measured."""
    from accord.policy import load_policy
    from accord.scorers.calibration import calibrate
    from accord.scorers.calibration_record import as_json, save_calibration
    from accord.scorers.labels import read_labels
    from accord.scorers.named import scorer_named
    from accord.starter import policy_path

    asked = asked_question(question)
    judge = scorer_named(scorer, load_policy(policy or policy_path()))
    result = calibrate(judge, [row for path in labels for row in read_labels(path, asked)], asked)
    if result.measured.agreement.value is None:
        unscored = "; ".join(f"{n} {why}" for why, n in result.measured.agreement.unscored.items())
        raise NotMeasuredError(
            f"{', '.join(map(str, labels))}: not one row could be compared ({unscored or 'people call all of them partial'})"
        )
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


def show(name: str, e: Estimate) -> str:
    """Return one line of an estimate: value, interval, n and how many are unscored."""
    value = f"no value: {e.method}" if e.value is None else f"{e.value:.3f}"
    span = f" [{e.low:.3f}, {e.high:.3f}]" if e.low is not None and e.high is not None else ""
    return f"  {name:<42} {value}{span}  n = {e.n}, {e.n_unscored} unscored"


def _show(name: str, e: Estimate) -> None:
    print(show(name, e))


COMMANDS = (judge_train, judge_calibrate)
