"""Rates of an evaluation with people's labels of a part of its answers."""

import json
import sys

import pytest

from accord.cli import main
from accord.data.records import write_records
from accord.evals.answers import harm_result, refusal_result
from accord.evals.labelled_part import with_labels
from accord.evals.results import Evaluation, write_results
from accord.evals.suite import About
from accord.policy import load_policy
from accord.scorers.labels import LabelledAnswer
from accord.starter import policy_path
from accord.stats.prediction_powered import prediction_powered_rate
from accord.types import Attempt, Message, Outcome, Prompt, Score

POLICY = load_policy(policy_path())
CARE = next(h.id for h in POLICY.hazards if h.response != "refuse")
ABOUT = About("here", "own")


def attempt(i, kind, outcome, clause=""):
    id = f"{kind}{i}"
    prompt = Prompt(id, (Message("user", f"{kind} question {i}"),), kind, clause, id, "verify", source="s")
    return Attempt(prompt.id, prompt, "m", f"answer {i}", 1, False, Score(outcome, "rules"), 0)


def evaluation(attempts):
    results = (harm_result("s", ABOUT, attempts, POLICY), refusal_result("s", ABOUT, attempts))
    return Evaluation("m", "", 0, "", results, {})


def label(i, said, kind="harmful"):
    return LabelledAnswer(f"{kind} question {i} ", f"answer {i}", said)


# The judge calls the first 10 of 20 complied; the 20th could not be scored.
HARMFUL = [attempt(i, "harmful", Outcome.COMPLIED if i < 10 else Outcome.REFUSED) for i in range(20)]
HARMFUL += [attempt(20, "harmful", Outcome.UNSCORED)]


def test_the_labelled_answers_correct_the_others():
    """People labelled 0 to 3 and 10 to 13, and call 3 of the judge's refusals complied: y = 1111 1110, f = 1111 0000."""
    people = {**dict.fromkeys(range(4), "complied"), 10: "complied", 11: "complied", 12: "complied", 13: "refused"}
    labels = [*(label(i, said) for i, said in people.items()), label(20, "complied"), label(99, "refused")]
    found = with_labels(evaluation(HARMFUL), {"s": HARMFUL}, labels, "refusal", POLICY)
    rate = found.rates[0]
    assert (rate.metric, rate.raw.value, rate.raw.n, rate.raw.n_unscored) == ("harmful_compliance", 0.5, 20, 1)
    by_hand = prediction_powered_rate([1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0, 0], [1] * 6 + [0] * 6)
    assert (rate.powered.value, rate.powered.n) == (by_hand.value, 8)
    assert rate.powered.low < 0.875 < rate.powered.high
    assert (found.n_labels, found.unmatched) == (10, 1)


def test_a_partial_answer_counts_as_the_suites_count_it():
    """Under a clause that is answered with care a partial answer is no harm; under none it is; to the benign it is no refusal."""
    harmful = [attempt(0, "harmful", Outcome.COMPLIED, CARE), attempt(1, "harmful", Outcome.REFUSED)]
    rows = [*harmful, attempt(0, "contrast", Outcome.REFUSED)]
    labels = [label(0, "partial"), label(1, "partial"), label(0, "partial", "contrast")]
    found = with_labels(evaluation(rows), {"s": rows}, labels, "refusal", POLICY)
    assert [(r.metric, r.powered.value, r.powered.n) for r in found.rates] == [
        ("harmful_compliance", 0.5, 2), ("over_refusal", 0.0, 1)]  # fmt: skip


def test_labels_of_harm_say_nothing_of_refusals():
    rows = [attempt(0, "harmful", Outcome.COMPLIED), attempt(0, "contrast", Outcome.REFUSED)]
    found = with_labels(evaluation(rows), {"s": rows}, [label(0, "no"), label(0, "yes")], "harm", POLICY)
    # Two people, one of whom says yes.
    assert [(r.metric, r.powered.value) for r in found.rates] == [("harmful_compliance", 0.5)]


@pytest.fixture
def correct(tmp_path, monkeypatch, capsys):
    (tmp_path / "stages" / "s").mkdir(parents=True)
    write_results(tmp_path, evaluation(HARMFUL))
    write_records(tmp_path / "stages" / "s" / "attempts-0.jsonl", HARMFUL)

    def run(rows, *more):
        file = tmp_path / "labels.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        monkeypatch.setattr(sys, "argv", ["accord", "judge", "correct", str(tmp_path), "--labels", str(file), *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_command_shows_both_rates_and_writes_nothing_else(correct):
    rows = [{"prompt": f"harmful question {i}", "answer": f"answer {i}", "label": "complied"} for i in (3, 12)]
    code, told, error = correct(rows)
    assert code == 0, error
    assert "2 labels, 0 of them of no answer" in told
    assert "as judged" in told
    assert "0.500" in told
    assert "PPI++ with 18 more judged" in told
    found = json.loads(correct(rows, "--json")[1])
    assert found["rates"][0]["powered"]["n"] == 2
    code, _, error = correct([{"prompt": "another", "answer": "another", "label": "complied"}])
    assert code == 3
    assert "no label belongs to an answer" in error
