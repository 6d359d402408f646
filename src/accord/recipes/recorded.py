"""What a finished run has to show, whichever verb made it: read back from its folder, item by item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accord.data.records import read_attempts
from accord.errors import InputError, NotMeasuredError
from accord.evals.gates import round_measures, sequential_estimate
from accord.evals.results import RESULTS, Evaluation, SuiteResult, estimate, read_results
from accord.evals.round_results import round_results
from accord.evals.summary import ChoiceResult, Condition, compare, summarise
from accord.policy import Policy, load_policy
from accord.recipes.campaign_results import METRIC, SUITE, campaign_results
from accord.runs.folder import MANIFEST, Run, read_run
from accord.scorers.calibration_record import kept_calibration
from accord.starter import policy_path
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class Recorded:
    """A run's results item by item; its measures, and the results that they rest on, by the names that gates call them."""

    folder: Path
    evaluation: Evaluation
    measures: Mapping[str, Estimate]
    gated: Mapping[str, SuiteResult]

    def so_far(self) -> dict[str, Estimate]:
        """Return the measures with intervals that hold at every look; of a difference there is none."""
        none = Estimate(None, None, None, 0, "not measured: no confidence sequence of it")
        return {n: sequential_estimate(self.gated[n]) if n in self.gated else none for n in self.measures}


def read_recorded(folder: Path, policy: Policy | None = None) -> Recorded:
    """Return what a run of `accord align`, `eval` or `redteam` measured, judged by `policy` (its own where None).

    Raises:
        InputError: the folder holds no such run, or a file of it is malformed.
        NotMeasuredError: the run has not got as far as its measurement.
    """
    if (folder / RESULTS).exists():
        evaluation = read_results(folder)
        gated = {f"{r.suite}/{r.metric}": r for r in evaluation.results}
        return Recorded(folder, evaluation, {name: estimate(r) for name, r in gated.items()}, gated)
    if not (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} holds no run: no {MANIFEST} and no {RESULTS}; expected a folder of `accord align`, `eval` or `redteam`"
        )
    run = read_run(folder)
    judged_by = policy or policy_of(folder)
    return _read_campaign(run, judged_by) if run.asked.get("verb") == SUITE else _read_round(run, judged_by)


def policy_of(folder: Path) -> Policy:
    """Return the policy that a run was asked to follow; the starter policy where it names none.

    Raises:
        InputError: the policy's file is gone or malformed, or the run kept only its policy's hash, and it is not the starter's.
    """
    named = read_run(folder).asked.get("policy", "") if (folder / MANIFEST).exists() else ""
    if not (folder / RESULTS).exists():
        return load_policy(named or policy_path())
    starter = load_policy(policy_path())
    if named not in ("", starter.hash):
        raise InputError(f"{folder} was evaluated under another policy than the starter's; name its file with --policy")
    return starter


def _read_campaign(run: Run, policy: Policy) -> Recorded:
    from accord.redteam.journal import TRIALS, settled_trials  # loads torch, which rounds and evaluations do without

    stage = run.folder / "stages" / SUITE
    if not (stage / TRIALS).exists():
        raise NotMeasuredError(f"{run.folder} has made no trial yet; ask the same campaign again in that folder")
    trials, judge = settled_trials(stage), str(run.asked.get("judged_by", ""))
    # As a campaign writes its judge down: NAME (HASH).
    name, _, config_hash = judge.removesuffix(")").rpartition(" (")
    known = kept_calibration(name, config_hash, asked={(t.goal.kind, t.goal.clause) for t in trials})
    results = campaign_results(trials, policy, judge, known)
    evaluation = Evaluation(
        model=str(run.asked.get("model", "")),
        fingerprint=str(run.asked.get("model_fingerprint", "")),
        seed=int(run.asked.get("seed", 0)),
        system="",
        # Of one attack alone the rate over all is the same number, and would be counted as a second comparison.
        results=results if len(results) > 2 else results[:1],
        skipped={},
    )
    # What was found on other goals may be trained on, so that only `verify` says how a release would fare.
    sealed = campaign_results([t for t in trials if t.goal.split == "verify"], policy, judge, known)
    fresh = {f"{r.suite}/{r.metric}": r for r in sealed}
    none = {
        f"{SUITE}/{METRIC}": Estimate(
            None, None, None, 0, "not measured: no trial on a goal of the verify split has ended"
        )
    }
    return Recorded(run.folder, evaluation, none | {name: estimate(r) for name, r in fresh.items()}, fresh)


def _read_round(run: Run, policy: Policy) -> Recorded:
    manifest = run.manifest()
    # Of several rounds the run says which one's model would be released: the last one may have been undone.
    last = "verify" if int(run.asked.get("rounds", 1)) == 1 else str(manifest.get("verified", ""))
    if not last:
        raise NotMeasuredError(
            f"{run.folder} has not done all its rounds yet; ask for the same run again in that folder"
        )
    base, aligned = _condition(run, "probe-base"), _condition(run, last)
    scorer, name = (
        str(manifest.get("scorer", "")),
        next((a.score.scorer for a in aligned.attempts if a.score.scorer), ""),
    )
    known = kept_calibration(name, scorer, asked={(a.prompt.kind, a.prompt.clause) for a in aligned.attempts})
    measures = round_measures(summarise(aligned, policy), compare(base, aligned, policy))
    evaluation = Evaluation(
        model=f"{run.asked.get('model', '')}, aligned",
        # The base's fingerprint and all that was asked: two rounds with equal ones have the same model.
        fingerprint=f"{manifest.get('model_fingerprint', '')} {json.dumps(dict(run.asked), sort_keys=True)}",
        seed=int(run.asked.get("seed", 0)),
        system="",
        results=round_results(aligned, policy, scorer, known),
        skipped={},
    )
    return Recorded(run.folder, evaluation, measures, {r.metric: r for r in evaluation.results})


def _condition(run: Run, stage: str) -> Condition:
    folder = run.folder / "stages" / stage
    record = folder / "stage.json"
    if not record.exists():
        raise NotMeasuredError(
            f"{run.folder} has not finished its stage '{stage}'; go on with `accord resume {run.folder}`"
        )
    attempts = tuple(a for path in sorted(folder.glob("attempts-*.jsonl")) for a in read_attempts(path))
    choices = json.loads(record.read_text(encoding="utf-8"))["outputs"].get("choices", [])
    return Condition(
        attempts[0].condition if attempts else stage, attempts, tuple(ChoiceResult(**row) for row in choices)
    )
