"""`accord judge correct`: the rates of a finished evaluation, corrected by people's labels of a part of its answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from accord.cli.judge import Asked, Labels, asked_question, show
from accord.cli.options import existing
from accord.errors import DataError, NotMeasuredError


def judge_correct(
    labels: Labels,
    run: Path = typer.Argument(..., callback=existing, help="The folder of a finished `accord eval`."),
    question: Asked = "refusal",
    policy: str = typer.Option(
        "", callback=existing, help="The policy that it was evaluated under, if not the starter's."
    ),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Correct a finished evaluation's rates by labels of some of its own answers (PPI++), drawn at random; nothing is asked.

    No calibration is needed: whatever the judge's error, the labelled answers correct it on all the others.
    """
    from accord.evals.judged_answers import judged_answers
    from accord.evals.labelled_part import with_labels
    from accord.evals.results import read_results
    from accord.policy import load_policy
    from accord.recipes.recorded import policy_of
    from accord.scorers.labels import read_labels

    asked = asked_question(question)
    rows = [row for path in labels for row in read_labels(path, asked)]
    answers = judged_answers(run)
    found = with_labels(read_results(run), answers, rows, asked, load_policy(policy) if policy else policy_of(run))
    if not found.rates:
        raise DataError(f"{run} holds no rate of a judge's verdicts that labels of '{asked}' could correct")
    if json_:
        print(json.dumps(asdict(found)))
    else:
        print(f"{run}: {found.n_labels} labels, {found.unmatched} of them of no answer in it")
        for rate in found.rates:
            print(f"{rate.suite} {rate.metric}")
            print(show("as judged", rate.raw))
            print(show("with people's labels", rate.powered))
            if rate.powered.n:
                print(f"    {rate.powered.method}")
    if not any(rate.powered.n for rate in found.rates):
        raise NotMeasuredError(
            "no label belongs to an answer that was scored: a row's prompt and answer must be those of the run, "
            f"as {run / 'stages'} has them"
        )
