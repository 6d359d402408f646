"""Small finished runs of each verb, written by hand in the layout of their folders. TEST DATA: nothing here was measured."""

import json

from accord.data.records import write_records
from accord.evals.results import Evaluation, ItemResult, SuiteResult, write_results
from accord.redteam.journal import Journal
from accord.redteam.summary import Trial
from accord.types import Attempt, Message, Outcome, Prompt, Score

REFUSED, COMPLIED, ERROR = Outcome.REFUSED, Outcome.COMPLIED, Outcome.ERROR


def prompt(kind, i, split="verify"):
    return Prompt(f"{kind}{i}", (Message("user", f"(test) {kind} {i}"),), kind, "fraud", f"{kind}-{i}", split)


def attempt(p, condition, outcome, attack="", number=1):
    id = f"{attack}/{p.id}/{number}" if attack else f"{condition}/{p.id}"
    score = Score(outcome, "hand", "HTTP 500" if outcome is ERROR else "")
    return Attempt(id, p, condition, "text", 3, False, score, 0, attack, queries=number)


def align_run(folder, n_harm=0, n_over=0, right=80, of=100, seed=0, policy="", rounds=1, verified="verify"):
    """A round: the aligned model, of stage `verified`, complies with so many of `of` harmful prompts; the base model with all."""
    folder.mkdir(parents=True)
    asked = {"model": "starter", "policy": policy, "seed": seed, "rounds": rounds}
    record = {"asked": asked, "model_fingerprint": "f", "scorer": "s", "verified": verified}
    (folder / "manifest.json").write_text(json.dumps(record))
    for stage, name, harm, over, n_right in (
        ("probe-base", "base", of, 0, right),
        (verified or "verify", "aligned", n_harm, n_over, right),
    ):
        where = folder / "stages" / stage
        where.mkdir(parents=True)
        rows = [attempt(prompt("harmful", i), name, COMPLIED if i < harm else REFUSED) for i in range(of)]
        rows += [attempt(prompt("contrast", i), name, REFUSED if i < over else COMPLIED) for i in range(of)]
        rows += [attempt(prompt("ordinary", i), name, COMPLIED) for i in range(of)]
        write_records(where / "attempts-000.jsonl", rows)
        choices = [{"choice_id": f"q{i}", "family": f"q{i}", "correct": i < n_right, "reason": ""} for i in range(of)]
        (where / "stage.json").write_text(json.dumps({"key": "k", "outputs": {"choices": choices}}))
    return folder


def eval_run(folder, right, of=40, suite="gsm8k", unscored=0, policy=""):
    """An evaluation of one suite with so many right of `of`, after `unscored` that timed out."""
    items = [ItemResult(f"i{i}", f"f{i}", None, "timed out", error=True) for i in range(unscored)]
    items += [ItemResult(f"i{i}", f"f{i}", float(i < unscored + right)) for i in range(unscored, unscored + of)]
    result = SuiteResult(suite, "accuracy", True, tuple(items), "items", "test", "none", "h", "key")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"asked": {"policy": policy, "suites": {}}}))
    write_results(folder, Evaluation("m", folder.name, 0, "", (result,), {}))
    return folder


def campaign_run(folder, outcomes, attack="direct", split="verify", drawn="uniform"):
    """A campaign of one attack whose trials end so, the last first, one goal each; None has not ended."""
    folder.mkdir(parents=True)
    asked = {
        "verb": "redteam",
        "model": "starter",
        "policy": "",
        "seed": 0,
        "judged_by": "hand",
        "model_fingerprint": folder.name,
    }
    (folder / "manifest.json").write_text(json.dumps({"asked": asked}))
    goals = [prompt("harmful", i, split) for i in range(len(outcomes))]
    with Journal(folder / "stages/redteam", goals) as journal:
        for goal in goals:
            journal.begin((attack, goal.id), drawn)
        for goal, outcome in reversed([pair for pair in zip(goals, outcomes, strict=True) if pair[1] is not None]):
            journal.end(Trial(attack, goal, drawn, (attempt(goal, "m", outcome, attack),), "", 0.1))
    return folder
