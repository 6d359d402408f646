"""Runs of every verb are read back into one record, item by item."""

import json
from dataclasses import dataclass

import pytest
from recorded_runs import COMPLIED, ERROR, REFUSED, align_run, campaign_run, eval_run

from accord.errors import InputError, NotMeasuredError
from accord.evals.comparison import compare_runs
from accord.evals.results import ANSWER_KEY
from accord.policy import load_policy
from accord.recipes.campaign_report import write_campaign_report
from accord.recipes.recorded import policy_of, read_recorded
from accord.redteam.journal import read_trials
from accord.redteam.summary import summarise
from accord.runs.folder import read_run
from accord.scorers.calibration import calibrate
from accord.scorers.calibration_record import save_calibration
from accord.scorers.labels import LabelledAnswer
from accord.starter import policy_path
from accord.types import Score


def test_a_round_has_its_measures_and_items(tmp_path):
    found = read_recorded(align_run(tmp_path / "a", n_harm=7, n_over=3, of=50))
    assert found.measures["harmful_compliance"].value == pytest.approx(7 / 50)
    assert found.measures["contrast_refusal"].value == pytest.approx(3 / 50)
    assert found.measures["capability_change"].value == 0.0
    by_name = {r.metric: r for r in found.evaluation.results}
    assert sum(i.value for i in by_name["harmful_compliance"].items) == 7
    assert not by_name["harmful_compliance"].higher_is_better
    assert by_name["capability"].higher_is_better


def test_of_several_rounds_the_released_one_is_judged(tmp_path):
    """The third was undone, so that the second's model is the one."""
    run = align_run(tmp_path / "a", n_harm=2, of=20, rounds=3, verified="verify-round-2")
    assert read_recorded(run).measures["harmful_compliance"].value == pytest.approx(2 / 20)
    (run / "stages/verify-round-2/stage.json").unlink()
    with pytest.raises(NotMeasuredError, match="verify-round-2"):  # never another round's numbers in its place
        read_recorded(run)
    with pytest.raises(NotMeasuredError, match="has not done all its rounds yet"):
        read_recorded(align_run(tmp_path / "b", rounds=2, verified=""))


def test_two_rounds_are_compared_prompt_by_prompt(tmp_path):
    runs = [read_recorded(align_run(tmp_path / str(n), n_harm=n, of=40, seed=n)).evaluation for n in (20, 5)]
    harm = compare_runs(*runs, ("A", "B")).metrics[0]
    assert (harm.difference.value, harm.fell, harm.rose) == (pytest.approx(-15 / 40), 15, 0)
    assert harm.change == "better"


@dataclass
class ByHand:
    """The judge of the runs by hand: calls refused what begins with "no", and errs on 1 in 5 of either kind."""

    config_hash: str = "s"
    name: str = "hand"

    def score_all(self, transcripts):
        return [Score(REFUSED if t.answer.startswith("no") else COMPLIED, self.name) for t in transcripts]


def test_rates_of_rounds_and_campaigns_are_corrected_for_the_judge_that_was_recorded(tmp_path, monkeypatch):
    """With sensitivity and specificity 0.8, 20 of 40 are 20 and 26 of 40 are (0.65 - 0.2) / 0.6 = 0.75 of them."""
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    labels = [("refused", "no")] * 40 + [("refused", "so")] * 10 + [("complied", "so")] * 40 + [("complied", "no")] * 10
    rows = [LabelledAnswer(f"p{i}", answer, label) for i, (label, answer) in enumerate(labels)]
    save_calibration(calibrate(ByHand(), rows))
    aligned = read_recorded(align_run(tmp_path / "a", n_harm=20, n_over=26, of=40)).evaluation
    harm, contrast, _, capability = aligned.results
    assert [harm.corrected.value, contrast.corrected.value] == pytest.approx([0.5, 0.75])
    assert "agrees with people on 80.0%" in harm.calibration
    assert (capability.corrected, capability.calibration) == (None, ANSWER_KEY)
    assert compare_runs(aligned, aligned, ("A", "B")).metrics[0].corrected == (harm.corrected, harm.corrected)
    campaign = campaign_run(tmp_path / "c", [COMPLIED] * 26 + [REFUSED] * 14)
    other = read_recorded(campaign).evaluation.results[0]
    assert (other.corrected, other.calibration) == (None, "uncalibrated")
    manifest = json.loads((campaign / "manifest.json").read_text())
    manifest["asked"]["judged_by"] = "hand (s)"
    (campaign / "manifest.json").write_text(json.dumps(manifest))
    assert read_recorded(campaign).evaluation.results[0].corrected.value == pytest.approx(0.75)


def test_an_evaluation_is_named_by_suite_and_metric(tmp_path):
    found = read_recorded(eval_run(tmp_path / "e", right=30, unscored=4))
    assert found.measures["gsm8k/accuracy"].value == pytest.approx(30 / 40)
    assert found.measures["gsm8k/accuracy"].unscored == {"timed out": 4}


def test_redteam_03_a_campaigns_errors_are_neither_hits_nor_misses(tmp_path):
    """Case redteam-03: 2 breached, 5 defended, 3 errors: 2/7, errors counted by cause."""
    outcomes = [COMPLIED] * 2 + [REFUSED] * 5 + [ERROR] * 3
    found = read_recorded(campaign_run(tmp_path / "c", outcomes)).measures["redteam/attack_success"]
    assert found.value == pytest.approx(2 / 7)
    assert found.unscored == {"error: HTTP 500": 3}


def test_adaptive_trials_and_goals_that_may_be_trained_on_feed_no_gate(tmp_path):
    adaptive = read_recorded(campaign_run(tmp_path / "c", [COMPLIED], drawn="adaptive"))
    assert adaptive.measures["redteam/attack_success"].value is None
    seen = read_recorded(campaign_run(tmp_path / "d", [REFUSED] * 200, split="discover"))
    assert seen.measures["redteam/attack_success"].value is None
    assert "verify split" in seen.measures["redteam/attack_success"].method
    assert seen.evaluation.results  # two campaigns are still compared


def test_a_look_at_a_campaign_under_way_counts_up_to_its_first_unfinished_trial(tmp_path):
    """Successes end early: of 6 begun 4 have ended, 3 with success. Up to the third, which has not, 1 of 2 succeeded."""
    outcomes = [COMPLIED, REFUSED, None, COMPLIED, None, COMPLIED]
    found = read_recorded(campaign_run(tmp_path / "c", outcomes))
    assert found.measures["redteam/attack_success"].value == pytest.approx(1 / 2)
    assert found.so_far()["redteam/attack_success"].n == 2
    # In the order in which they were drawn, whichever ended first.
    assert [item.value for item in found.gated["redteam/attack_success"].items] == [1.0, 0.0]
    assert [item.value for item in found.evaluation.results[0].items] == [1.0, 0.0]
    none = read_recorded(campaign_run(tmp_path / "d", [None, COMPLIED]))
    assert none.measures["redteam/attack_success"].value is None


def test_a_campaign_of_one_attack_is_one_comparison_and_two_measures(tmp_path):
    found = read_recorded(campaign_run(tmp_path / "c", [COMPLIED, REFUSED]))
    assert [r.metric for r in found.evaluation.results] == ["attack_success"]
    assert {"redteam/attack_success", "redteam/attack_success/direct"} == set(found.measures)


def test_what_is_no_run_or_not_finished_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_recorded(tmp_path)
    run = align_run(tmp_path / "a", of=3)
    (run / "stages/verify/stage.json").unlink()
    with pytest.raises(NotMeasuredError, match="accord resume"):
        read_recorded(run)
    campaign = campaign_run(tmp_path / "c", [REFUSED])
    (campaign / "stages/redteam/trials.jsonl").unlink()
    with pytest.raises(NotMeasuredError, match="no trial"):
        read_recorded(campaign)


def test_an_evaluation_under_another_policy_asks_for_its_file(tmp_path):
    starter = load_policy(policy_path())
    assert policy_of(eval_run(tmp_path / "e", 1, policy=starter.hash)) == starter
    with pytest.raises(InputError, match="--policy"):
        policy_of(eval_run(tmp_path / "f", 1, policy="0" * 64))


def test_a_campaigns_page_lies_in_its_folder(tmp_path):
    """Both successes are listed; the settings and the judge stand on the page."""
    folder = campaign_run(tmp_path / "c", [COMPLIED, REFUSED, COMPLIED])
    run, policy, trials = read_run(folder), policy_of(folder), read_trials(folder / "stages/redteam")
    summary = summarise(trials, policy, model="starter", judge="hand", n_cells=3)
    page = write_campaign_report(run, policy, summary, trials, frozenset()).read_text(encoding="utf-8")
    assert page.count("Show the model’s answer") == 2
    assert "Red team of starter" in page
    assert "20.8% to 93.9%" in page  # Wilson of 2 of 3
