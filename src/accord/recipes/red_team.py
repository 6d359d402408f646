"""One red-team campaign as a run: what was asked, every answer as it came, the numbers at the end.

In the run's folder: `stages/redteam/` is the campaign's journal, `attempts.jsonl` every attempt, `findings.jsonl` those that failed
the policy, `summary.json` the numbers, `report.html` the page.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from accord.data.failures import finding_of
from accord.data.records import read_prompts, write_records
from accord.models.opening import open_completer
from accord.models.precision import Precision
from accord.policy import Policy, load_policy
from accord.recipes.campaign_report import write_campaign_report
from accord.recipes.reporting import machine_facts
from accord.recipes.settings import asked_of
from accord.redteam.attack import Attack
from accord.redteam.campaign import WHITE_BOX_STEPS, Plan, judge_was_down, run_campaign
from accord.redteam.choice import choose_attacks, usable
from accord.redteam.journal import forget_failures, read_trials
from accord.redteam.summary import CampaignSummary, Trial, summarise, to_row
from accord.runs.atomic import digest, write_json
from accord.runs.folder import MANIFEST, open_run, read_run
from accord.scorers.calibration_record import load_calibration
from accord.scorers.named import scorer_named
from accord.scorers.selfcheck import require_trusted
from accord.starter import policy_path, verify_path
from accord.types import Attempt, Finding, Progress, Prompt

VERB = "redteam"
SUMMARY, ATTEMPTS, FINDINGS = "summary.json", "attempts.jsonl", "findings.jsonl"


@dataclass(frozen=True, slots=True)
class RedTeamSettings:
    """All that a campaign was asked; an empty text stands for the starter's own, no attacks for all black-box ones."""

    model: str
    attacks: tuple[str, ...] = ()
    goals: str = ""
    policy: str = ""
    attacker: str = ""
    judge: str = "refusal"
    precision: Precision = "auto"
    plan: Plan = field(default_factory=Plan)

    def asked(self) -> dict[str, Any]:
        """Return the settings as a manifest keeps them."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "plan"}
        return {"verb": VERB, **own, **asked_of(self.plan, {"white_box_steps": WHITE_BOX_STEPS})}


def settings_from(asked: Mapping[str, Any]) -> RedTeamSettings:
    """Return the settings that a manifest kept."""
    # Runs of before a setting was there lack it.
    plan = Plan(**{f.name: asked[f.name] for f in fields(Plan) if f.name in asked})
    own = {f.name: asked[f.name] for f in fields(RedTeamSettings) if f.name != "plan" and f.name in asked}
    return RedTeamSettings(**{**own, "attacks": tuple(own["attacks"])}, plan=plan)


def red_team(settings: RedTeamSettings, folder: Path, progress: Progress) -> CampaignSummary:
    """Run a campaign in a folder, or go on with it, and return its numbers.

    What is finished is read back. Of a campaign that measured nothing, since the model could not be reached or the judge failed,
    only what the model answered is kept.

    Raises:
        InputError: something asked for is wrong, or the folder holds another run.
        NotMeasuredError: the judge fails cases whose verdict is known.
    """
    policy = load_policy(Path(settings.policy) if settings.policy else policy_path())
    attacks = choose_attacks(settings.attacks)
    goals = read_goals(settings.goals, policy)
    scorer = scorer_named(settings.judge, policy)
    judge = f"{scorer.name} ({scorer.config_hash})"
    if not goals:
        return summarise((), policy, model=settings.model, judge=judge)
    require_trusted(scorer, policy)
    known = load_calibration(scorer, asked={(goal.kind, goal.clause) for goal in goals})
    completer = open_completer(settings.model, settings.precision)
    attacker = open_completer(settings.attacker, settings.precision) if settings.attacker else completer
    chosen = _going_on_with(attacks, folder) or usable(attacks, completer, named=bool(settings.attacks))
    progress.say(_announcement(settings, goals, sorted(chosen), sorted(attacks.keys() - chosen.keys())))
    # What the names stood for is part of what was asked: other weights or goals under the same name are another run.
    stood_for = {
        "model_fingerprint": completer.fingerprint,
        "attacker_fingerprint": attacker.fingerprint,
        "policy_hash": policy.hash,
        "judged_by": judge,
        "goals_hash": digest([asdict(goal) for goal in goals]),
        "chosen": sorted(chosen),
    }
    run = open_run(folder, {**settings.asked(), **stood_for}, machine_facts())
    stage = run.stage(VERB, stood_for)
    if _measured_nothing(folder):
        forget_failures(stage.folder)
        (folder / SUMMARY).unlink()

    async def campaign() -> tuple[Trial, ...]:
        try:
            return await run_campaign(
                completer, chosen, goals, policy, scorer, settings.plan, stage.folder, progress, attacker
            )
        finally:
            await completer.close()
            if attacker is not completer:
                await attacker.close()

    trials = read_trials(stage.folder) if stage.done else asyncio.run(campaign())
    summary = summarise(
        trials, policy, model=settings.model, judge=judge, n_cells=len(chosen) * len(goals), known=known
    )
    attempts = [attempt for trial in trials for attempt in trial.attempts]
    write_records(folder / ATTEMPTS, attempts)
    write_records(folder / FINDINGS, _findings(attempts, policy, folder.name))
    write_json(folder / SUMMARY, to_row(summary))
    write_campaign_report(run, policy, summary, trials, frozenset(n for n, a in chosen.items() if a.white_box))
    if n_down := sum(map(judge_was_down, trials)):
        progress.say(
            f"the judge failed in {n_down} of {len(trials)} trials; ask the same again to have their answers judged"
        )
    elif summary.measured:
        stage.finish({"trials": len(trials)})
    return summary


def _findings(attempts: Sequence[Attempt], policy: Policy, run: str) -> list[Finding]:
    """Return the attempts that failed the policy, for `accord findings add`; one id says one attempt of one run."""
    found = (finding_of(a, policy.response_mode(a.prompt.clause), run) for a in attempts)
    return [replace(f, id=f"{run}/{f.id}") for f in found if f is not None]


def read_goals(file: str, policy: Policy) -> tuple[Prompt, ...]:
    """Return the harmful prompts of a file; without one, the starter's of split `verify` under the policy's own hazards.

    An empty file has none.

    Raises:
        DataError: the file is missing or malformed.
        PolicyError: a prompt of the file cites a hazard that the policy lacks.
    """
    if file and Path(file).is_file() and not Path(file).read_bytes().strip():
        return ()
    prompts = [p for p in read_prompts(file or verify_path()).prompts if p.kind == "harmful"]
    if file:
        for prompt in prompts:
            policy.hazard(prompt.clause)
        return tuple(prompts)
    hazards = {hazard.id for hazard in policy.hazards}
    return tuple(p for p in prompts if p.clause in hazards)


def _going_on_with(attacks: Mapping[str, Attack], folder: Path) -> dict[str, Attack]:
    """Return those of the attacks that the folder's campaign was begun with; none where it holds no campaign of them.

    What a server can do is learnt from one short question to it: one that is down just now must not make another run of this one.
    """
    recorded = read_run(folder).asked.get("chosen", []) if (folder / MANIFEST).exists() else []
    # In the order of `attacks`, which the order of trials follows.
    return {name: attack for name, attack in attacks.items() if name in recorded}


def _measured_nothing(folder: Path) -> bool:
    path = folder / SUMMARY
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["attack_success_rate"] is None


def _announcement(
    settings: RedTeamSettings, goals: Sequence[Prompt], chosen: Sequence[str], left_out: Sequence[str]
) -> str:
    splits = Counter(goal.split for goal in goals)
    sealed = "; what is found on split verify is sealed from training" if splits["verify"] else ""
    without = f" (left out, since the model cannot: {', '.join(left_out)})" if left_out else ""
    plan = settings.plan
    return (
        f"{len(goals)} goals ({', '.join(f'{n} of split {split}' for split, n in splits.items())}{sealed}); "
        f"{len(chosen)} attacks: {', '.join(chosen)}{without}; a budget of {plan.budget} questions, {plan.queries} for each attack "
        f"on each goal, {plan.uniform_share:.0%} of them uniform"
    )
