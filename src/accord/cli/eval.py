"""`accord eval`: a model through evaluation suites, every number with its interval and what could not be scored."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from accord.cli.align import RUNS
from accord.cli.options import Judge, PrecisionName, Seed, existing, system_prompt_of
from accord.errors import GateError
from accord.types import UNCALIBRATED

if TYPE_CHECKING:
    from accord.evals.results import Evaluation, SuiteResult
    from accord.policy import Policy

SUITE_HELP = (
    "NAME, NAME=FILE or NAME=hub:ID, with options as NAME=FILE,OPTION=VALUE; your own as FILE.py:NAME; a task of Inspect as "
    "inspect:FILE.py@TASK; several times. "
    "Without it the policy's own suites."
)
MAX_ERRORS = 0.05
DIFFERENCE = 0.05


def evaluate_model(
    model: str = typer.Argument(..., help="A hub id, a local folder, a run, openai:NAME@URL, or 'starter'."),
    suite: list[str] = typer.Option([], help=SUITE_HELP),
    limit: int = typer.Option(0, min=0, help="At most so many items of each suite, spread evenly; 0 for all."),
    out: Path = typer.Option(None, help="The run's folder; a new one under runs/ if none."),
    policy: str = typer.Option("", callback=existing, help="A policy document (YAML); the starter policy if none."),
    system: str = typer.Option("", help="A system prompt, or a file that holds one."),
    temperature: float = typer.Option(0.0, min=0.0, help="0 always takes the likeliest token."),
    judge: Judge = "refusal",
    seed: Seed = 0,
    precision: PrecisionName = "auto",
    max_errors: float = typer.Option(
        MAX_ERRORS, min=0.0, max=1.0, help="The share of failed requests above which the end is exit code 1."
    ),
    difference: float = typer.Option(
        DIFFERENCE, min=0.001, max=0.5, help="Say how many items it takes to show a difference of so much."
    ),
    inspect_logs: Path = typer.Option(
        None,
        help="Also write a log of Inspect for each suite of judged answers into this folder; `inspect view` opens it.",
    ),
    json_: bool = typer.Option(False, "--json", help="Print the results as JSON."),
) -> None:
    """Evaluate a model; asking the same again in the same folder asks only what has no answer yet."""
    from accord.cli.progress import make_progress
    from accord.evals.evaluation import OWN_SUITES, choose, evaluate, needs_model, refuse_unmeasured
    from accord.evals.inspect_suite import PREFIX, add_inspect
    from accord.evals.results import RESULTS, error_share
    from accord.models.opening import open_completer
    from accord.models.sampling import Sampling
    from accord.policy import load_policy
    from accord.recipes.dressed_goals import dress
    from accord.recipes.reporting import machine_facts
    from accord.runs.folder import open_run
    from accord.scorers.named import scorer_named
    from accord.scorers.selfcheck import require_trusted
    from accord.starter import policy_path

    document = load_policy(Path(policy) if policy else policy_path())
    prompt = system_prompt_of(system)
    tasks = [text for text in suite if text.startswith(PREFIX)]
    suites, skipped = choose([text for text in suite or OWN_SUITES if text not in tasks], document, limit, dress)
    scorer = scorer_named(judge, document)
    require_trusted(scorer, document)
    folder = out or RUNS / time.strftime("eval-%Y%m%d-%H%M%S")
    asked = {
        "model": model, "suites": {c.name: c.content_hash for c in suites}, "inspect": tasks,
        "limit": limit, "system": prompt, "policy": document.hash,
        "temperature": temperature, "seed": seed, "precision": precision, "judge": judge,
    }  # fmt: skip

    sampling = Sampling(temperature=temperature, seed=seed)

    async def work() -> Evaluation:
        # checked where it is loaded
        completer = open_completer(model, precision) if needs_model(suites) or tasks else None  # type: ignore[arg-type]
        try:
            run = open_run(folder, asked, machine_facts())
            return await evaluate(
                completer, model, suites, skipped, document, prompt, sampling, scorer, run, make_progress()
            )  # fmt: skip
        finally:
            if completer:
                await completer.close()

    evaluation = asyncio.run(work())
    if tasks:
        evaluation = add_inspect(evaluation, tasks, folder, scorer, limit, sampling, precision)  # type: ignore[arg-type]  # checked above
    logs = _logged(evaluation, folder, inspect_logs, document) if inspect_logs else []
    if json_:
        print((folder / RESULTS).read_text(encoding="utf-8"))
    else:
        print("\n".join(lines(evaluation, difference)))
        print("\n".join([f"results: {folder / RESULTS}    answers: {folder / 'stages'}", *logs]))
    refuse_unmeasured(evaluation)
    share = error_share(evaluation.results)
    if share is not None and share > max_errors:
        raise GateError(
            f"{share:.1%} of the items ended in an error, more than --max-errors {max_errors:g}; ask the same again to retry them"
        )


def _logged(evaluation: Evaluation, folder: Path, target: Path, policy: Policy) -> list[str]:
    """Write the logs of Inspect; return what is said of them."""
    from accord.evals.inspect_export import export_logs

    logs = export_logs(folder, target, evaluation.model, policy)
    without = sorted({r.suite for r in evaluation.results} - logs.keys())
    told = [f"logs of Inspect: {target} ({', '.join(logs)})"] if logs else []
    return told + ([f"no log of {', '.join(without)}: no answers that a scorer read"] if without else [])


def lines(evaluation: Evaluation, difference: float) -> list[str]:
    """Return the table: a line a metric, with its interval, n, what is unscored, the mean over all items, and the n it wants."""
    from accord.evals.results import estimate

    told = [_line(result, difference) for result in evaluation.results]
    heads = [
        "suite",
        "metric",
        "better",
        "value",
        "95 % interval",
        "n",
        "unscored",
        "over all",
        f"n for {difference:.1%}",
    ]
    if any(result.counts for result in evaluation.results):
        heads.insert(5, "corrected for the judge")
        told = [(*row[:5], _corrected(r), *row[5:]) for row, r in zip(told, evaluation.results, strict=True)]
    widths = [max(len(row[i]) for row in (heads, *told)) for i in range(len(heads))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *told)
    ]
    notes = []
    for result in evaluation.results:
        n, unscored = len(result.items), estimate(result).unscored
        if unscored:
            reasons = "; ".join(f"{count} {reason}" for reason, count in sorted(unscored.items()))
            notes.append(f"{result.suite} {result.metric}: {sum(unscored.values())} of {n} not scored: {reasons}")
        if result.corrected and result.corrected.n:
            notes.append(f"{result.suite} {result.metric}: correction: {result.corrected.method}")
        if result.note:
            notes.append(f"{result.suite} {result.metric}: {result.note}")
    judged = sorted({f"{r.scorer}, {r.calibration}" for r in evaluation.results if r.scorer})
    notes += [f"scored by {scorer}" for scorer in judged]
    notes += [f"skipped {name}: {why}" for name, why in evaluation.skipped.items()]
    notes.append(
        f"n for {difference:.1%}: how many items each of two runs needs to show such a difference (two-sided 5 %, power 80 %); "
        "compared in pairs (`accord compare`), fewer are needed"
    )
    return [f"model {evaluation.model}, seed {evaluation.seed}", *table, *notes]


def _line(result: SuiteResult, difference: float) -> tuple[str, ...]:
    from accord.evals.results import estimate, over_all

    e, all_ = estimate(result), over_all(result)
    interval = (
        "not measured" if e.low is None or e.high is None else f"[{_number(e.low, result)}, {_number(e.high, result)}]"
    )
    return (
        result.suite,
        f"{result.metric} ({result.aggregate})",
        "higher" if result.higher_is_better else "lower",
        "not measured" if e.value is None else _number(e.value, result),
        interval,
        str(e.n),
        str(e.n_unscored),
        "not measured" if all_ is None else _number(all_, result),
        _needed(e.value, result, difference),
    )


def _corrected(result: SuiteResult) -> str:
    """Return the rate corrected for the judge's error; nothing where a judge's error is not what a value rests on."""
    e = result.corrected
    if not result.counts:
        return ""
    if e is None:
        return UNCALIBRATED
    if e.value is None or e.low is None or e.high is None:
        return "undefined" if e.n else "not measured"
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}]"


def _needed(value: float | None, result: SuiteResult, difference: float) -> str:
    """Return how many items show a difference from a share, towards the side with more room; a dash for what is no share."""
    from accord.stats.sample_size import size_unpaired

    if value is None or (result.low, result.high) != (0.0, 1.0):
        return "-"
    return f"{size_unpaired(value, value + difference if value <= 0.5 else value - difference):,}"


def _number(value: float, result: SuiteResult) -> str:
    return f"{value:.1%}" if (result.low, result.high) == (0.0, 1.0) else f"{value:+.3f}"
