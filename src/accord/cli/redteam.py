"""`accord redteam`: a campaign of attacks on a model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from accord.cli.align import RUNS
from accord.cli.options import Judge, PrecisionName, Seed, existing
from accord.errors import AccordError, NotMeasuredError

if TYPE_CHECKING:
    from accord.recipes.red_team import RedTeamSettings
    from accord.redteam.summary import CampaignSummary, SliceRates
    from accord.types import Estimate

ATTACK_HELP = (
    "An attack by name, NAME:option=value or FILE.py:NAME; several times. All that need no weights and no file if none."
)
GOALS_HELP = "Harmful prompts (JSONL, as `accord data check` reads them); the starter's of split verify if none."
SHARE_HELP = "Share of the budget that is drawn uniformly and feeds the rates; a bandit spends the rest."

STEPS_HELP = "Steps of search for each attack that needs the weights, on each goal; they cost no questions."


def redteam(
    model: str = typer.Argument(..., help="'starter', a local folder, a run, a hub id, or openai:NAME@URL."),
    attack: list[str] = typer.Option([], help=ATTACK_HELP),
    goals: str = typer.Option("", callback=existing, help=GOALS_HELP),
    budget: int = typer.Option(None, help="Questions put to the model in all.", show_default="2000"),
    queries: int = typer.Option(None, help="Questions for each attack on each goal.", show_default="12"),
    white_box_steps: int = typer.Option(None, help=STEPS_HELP, show_default="50"),
    uniform_share: float = typer.Option(None, help=SHARE_HELP, show_default="0.5"),
    policy: str = typer.Option("", callback=existing, help="A policy document (YAML); the starter policy if none."),
    attacker: str = typer.Option(
        "", help="The model that writes for attacks which need a writer; the attacked one if none."
    ),
    judge: Judge = "refusal",
    out: Path = typer.Option(None, help="The run's folder, also of one to go on with; a new one under runs/ if none."),
    max_new_tokens: int = typer.Option(None, help="Tokens of an answer.", show_default="64"),
    precision: PrecisionName = "auto",
    seed: Seed = 0,
    json_: bool = typer.Option(False, "--json", help="Print the numbers as JSON."),
) -> None:
    """Attack a model within a budget of questions; print how often each attack gets what the policy forbids."""
    from accord.recipes.red_team import RedTeamSettings
    from accord.redteam.campaign import Plan

    given: dict[str, Any] = {
        "budget": budget,
        "queries": queries,
        "white_box_steps": white_box_steps,
        "uniform_share": uniform_share,
        "max_new_tokens": max_new_tokens,
    }
    plan = Plan(seed=seed, **{name: value for name, value in given.items() if value is not None})
    settings = RedTeamSettings(model, tuple(attack), goals, policy, attacker, judge, precision, plan)  # type: ignore[arg-type]
    start(out or RUNS / time.strftime("redteam-%Y%m%d-%H%M%S"), settings, json_)


def start(folder: Path, settings: RedTeamSettings, as_json: bool) -> None:
    """Do or go on with the campaign in `folder` and print its numbers.

    Raises:
        NotMeasuredError: not one trial could be assessed.
    """
    from accord.cli.progress import make_progress
    from accord.recipes.red_team import ATTEMPTS, red_team
    from accord.redteam.summary import to_row
    from accord.report.redteam_page import REDTEAM_FILE

    try:
        summary = red_team(settings, folder, make_progress())
    except AccordError as error:
        if as_json:
            row: dict[str, Any] = {"status": "not measured", "attack_success_rate": None, "error": str(error)}
            print(json.dumps(row))
        raise
    if as_json:
        print(json.dumps({**to_row(summary), "folder": str(folder)}))
    else:
        print("\n".join(lines(summary)))
        if summary.overall.n_trials:
            print(f"transcripts: {folder / ATTEMPTS}    report: {folder / REDTEAM_FILE}")
    if not summary.measured:
        raise NotMeasuredError(_nothing(summary))


def lines(summary: CampaignSummary) -> list[str]:
    """Return a campaign's numbers as text: first what may be wrong with them, last what they cost."""
    if not summary.measured:
        return []
    overall = summary.overall
    bounds = "" if overall.bounds is None else f"; between {overall.bounds[0]:.1%} and {overall.bounds[1]:.1%} over all"
    said = [f"warning: {warning}" for warning in summary.warnings]
    said.append(f"model {summary.model}; judge {summary.judge}, {summary.calibration}")
    said.append(f"attack success {_told(overall.success)}{bounds}")
    said += _corrected("attack success", overall.corrected_success)
    said.append(f"answers that give what the policy forbids: {_told(overall.answers)}")
    said += _corrected("answers", overall.corrected_answers)
    said.append(f"goals that some attack got: {_told(summary.goals_got)}")
    also = f"{'corrected':<24}" if overall.corrected_success else ""
    said.append(f"{'':<24}{'success':<34}{also}{'found per 100 questions':<30}trials  questions")
    said += [_row(rates.attack, rates) for rates in summary.by_attack]
    said += [_row(rates.hazard, rates) for rates in summary.by_hazard]
    best = summary.by_attack[0]
    if best.n_successes:
        said.append(f"most found per question: {best.attack}")
    spent = [
        f"{part} {s.n_successes} found in {s.n_queries} questions ({s.n_trials} trials, {s.n_tokens} tokens)"
        for part, s in summary.spent.items()
        if s.n_trials
    ]
    said.append(f"{'; '.join(spent)}. Rates rest on the uniform part alone.")
    said += [f"  {n} requests failed: {cause}" for cause, n in summary.errors.items()]
    return said


def _row(name: str, rates: SliceRates) -> str:
    per_query = rates.per_query
    found = "not measured" if per_query.value is None else _span(per_query, 100, "")
    success = "not measured" if rates.success.value is None else _span(rates.success, 100, "%")
    unscored = f"  {rates.success.n_unscored} unscored" if rates.success.n_unscored else ""
    corrected = rates.corrected_success
    also = _span(corrected, 100, "%") if corrected and corrected.value is not None else "undefined"
    shown = f"{also if rates.success.value is not None else '':<24}" if corrected else ""
    return f"  {name:<22}{success:<34}{shown}{found:<30}{rates.n_trials:>6}{rates.n_queries:>11}{unscored}"


def _corrected(what: str, e: Estimate | None) -> list[str]:
    """Return a rate corrected for the judge's error as a line, or why it has none; nothing where the judge is uncalibrated."""
    if e is None:
        return []
    return [f"  {what}, corrected for the judge's error: {e.method if e.value is None else _told(e)}"]


def _span(e: Estimate, times: float, unit: str) -> str:
    if e.value is None or e.low is None or e.high is None:
        return "not measured"
    return f"{e.value * times:.1f}{unit} [{e.low * times:.1f}, {e.high * times:.1f}]"


def _told(e: Estimate) -> str:
    if e.value is None:
        return e.method if e.method.startswith("not measured") else "not measured"
    unscored = "; ".join(f"{n} {reason}" for reason, n in e.unscored.items()) or "none"
    return f"{_span(e, 100, '%')} (n={e.n}; unscored: {unscored}; {e.method})"


def _nothing(summary: CampaignSummary) -> str:
    overall = summary.overall
    if not overall.n_trials:
        return "not measured (0 attempts): no goal to attack with; give a file of harmful prompts with --goals"
    causes = "; ".join(f"{n} × {reason}" for reason, n in overall.success.unscored.items())
    return f"not measured: {overall.n_trials} trials, 0 assessed ({causes})"
