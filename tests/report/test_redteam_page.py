import re

import pytest
from demo_campaign import POLICY, demo, evidence, goals
from demo_evidence import JUDGE
from reading import Tags, loads_nothing, text_of

from accord.redteam.summary import Trial
from accord.report import describe
from accord.report.redteam_page import find_clusters, redteam_view, render_redteam, write_redteam_report
from accord.types import Attempt, Message, Outcome, Prompt, Score


@pytest.fixture(scope="module")
def page():
    return render_redteam(demo(0.12))


def ended(attack, goal, *outcomes, drawn="uniform"):
    attempts = tuple(
        Attempt(f"{attack}/{goal.id}/{i}", goal, "m", "answer", 3, False, Score(outcome, "hand", "HTTP 500"), 0, attack)
        for i, outcome in enumerate(outcomes, start=1)
    )
    return Trial(attack, goal, drawn, attempts)


def test_every_rate_stands_with_its_interval_n_and_unscored(page):
    summary = demo(0.12).summary
    seen = text_of(page)
    for rates in (*summary.by_attack, *summary.by_hazard):
        e = rates.success
        assert f"{describe.percent(e.value)}{describe.interval(e)}{describe.counts(e)}" in seen
    for rates in summary.by_attack:
        assert describe.per_success(rates.per_query) in seen
    assert describe.full(summary.overall.success) in seen
    for word in ("uncalibrated", "41 HTTP 500", "adaptive", POLICY.hash):
        assert word in seen


def test_the_unscored_come_before_the_headline(page):
    seen = text_of(page)
    assert seen.index("Read this first") < seen.index("could not be scored, so the rate may lie anywhere from")
    assert seen.index("could not be scored, so the rate") < seen.index("An attack got what it wanted in")


def test_a_cell_that_was_not_tried_is_not_measured(page):
    view = redteam_view(demo(0.12))
    pair = next(row for row in view.heat if row.attack == "pair")
    column = view.hazards.index(POLICY.hazards[2].id)
    assert pair.cells[column] is None
    assert [row.attack for row in view.heat] == [rates.attack for rates in demo(0.12).summary.by_attack]
    cells = [a for tag, a in Tags(page).tags if tag == "td" and a.get("class") == "none"]
    assert len(cells) == sum(c is None or c.success.value is None for row in view.heat for c in row.cells)
    assert "not measuredn = 0" in text_of(page)


def test_redteam_03_a_campaign_of_errors_has_no_rate():
    """Case redteam-03, second run: 3 attacks, all HTTP 500: no rate, no "0 %", no "100 % resistance"."""
    seen = text_of(render_redteam(evidence([ended("direct", goal, Outcome.ERROR) for goal in goals()[:3]])))
    assert "Not measured: not one of 3 trials could be assessed." in seen
    assert "No rate exists, and nothing is shown about safety." in seen
    assert "3 HTTP 500" in seen
    assert not re.search(r"(?<!\d)0\.0%", seen)
    assert "No trial succeeded" not in seen


def test_redteam_04_no_trials_is_not_measured():
    """Case redteam-04: n = 0 shows no rate, and none of the words of an all-clear."""
    seen = text_of(render_redteam(evidence([])))
    assert "Not measured: no attack was tried." in seen
    assert "%" not in seen.split("How each number was made")[0].split("Headline")[-1].replace("95%", "")
    for word in ("no vulnerabilities", " held", "100%", "0.0%"):
        assert word not in seen.lower()


def test_stats_01_no_success_is_no_certainty():
    """Case stats-01: 0 of 40 has an upper end of 8.8 %, is not called safe, and rules out more than one success in 11.4."""
    none = evidence([ended("direct", goal, Outcome.REFUSED) for goal in _forty()])
    seen = text_of(render_redteam(none))
    assert "0.0% to 8.8%n = 40, 0 unscored" in seen.replace(" n =", "n =")
    assert "no success in 40 questions; more than one in 11.4 is ruled out" in seen
    assert "No trial succeeded, of 40 assessed. That is no proof of safety" in seen


def _forty():
    return [Prompt(f"g{i}", (Message("user", "?"),), "harmful", "fraud", f"f{i}", "verify") for i in range(40)]


def test_findings_are_grouped_and_answers_folded():
    shown = goals()
    trials = [
        ended("a", shown[0], Outcome.REFUSED, Outcome.COMPLIED),
        ended("b", shown[0], Outcome.COMPLIED),
        ended("b", shown[8], Outcome.COMPLIED, drawn="adaptive"),
        ended("a", shown[8], Outcome.REFUSED),
    ]
    by_family = find_clusters(evidence(trials))
    assert [(c.name, c.n, c.attacks) for c in by_family] == [("fam-0", 2, ("a", "b")), ("fam-4", 1, ("b",))]
    assert [f.found.query for f in by_family[0].shown] == [1, 2]  # the cheapest first
    one = {"a/g00/2": "1a2b", "b/g00/1": "1a2b", "b/g08/1": "1a2b"}
    assert [(c.name, c.n) for c in find_clusters(evidence(trials, one))] == [("cluster 1a2b", 3)]
    page = render_redteam(evidence(trials, one))
    seen = text_of(page)
    assert "Successes: 3, grouped by meaning into 1" in seen
    assert seen.index("Offensive content.") < seen.index("cluster 1a2b")
    folds = [a for tag, a in Tags(page).tags if tag == "details" and a.get("class") == "fold"]
    assert len(folds) == 3
    assert not any("open" in a for a in folds)
    assert "1 from trials aimed" in seen.replace("; 1 from", " 1 from")


def test_splits_say_what_findings_may_be_used_for(page):
    seen = text_of(page)
    assert "26 goals of the verify split: sealed from training" in seen
    assert "14 goals of the discover split: may be trained on" in seen


def test_white_box_attacks_are_ranked_apart(page):
    seen = text_of(page)
    assert "With the model’s weights: soft_prompt" in seen
    assert "Most found for a question: soft_prompt" not in seen
    assert "white-box: needs the weights" in seen


def test_the_page_loads_nothing(page):
    assert loads_nothing(page) == 2


def test_hostile_text_stays_text(tmp_path):
    bad = "<script>alert(1)</script></details>\x00\u202e\ud800 {{ 7*7 }}"
    goal = Prompt("<b>id", (Message("user", bad),), "harmful", "fraud", bad, "verify")
    attempt = Attempt(
        "a", goal, "m", bad, 1, True, Score(Outcome.COMPLIED, "s"), 0, bad, (Message("system", bad),), bad
    )
    text = write_redteam_report(evidence([Trial(bad, goal, "uniform", (attempt,))]), tmp_path).read_text("utf-8")
    assert "script" not in {tag for tag, _ in Tags(text).tags}
    assert "\x00" not in text
    assert "⟨U+202E⟩" in text
    assert "{{ 7*7 }}" in text


def test_corrected_rates_stand_beside_the_raw_ones_where_the_judge_is_calibrated(page):
    shown = demo(0.12, known=JUDGE)
    seen = text_of(render_redteam(shown))
    by_attack = {rates.attack: rates for rates in shown.summary.by_attack}
    direct, crescendo = by_attack["direct"], by_attack["crescendo"]
    for raw, corrected in (
        (direct.success, direct.corrected_success),
        (crescendo.answers, crescendo.corrected_answers),
    ):
        told = f"corrected {describe.percent(corrected.value)} {describe.interval(corrected)}"
        assert f"{describe.percent(raw.value)}{describe.interval(raw)}{describe.counts(raw)}{told}" in seen
    assert crescendo.corrected_success.value is None
    assert f"{describe.counts(crescendo.success)}correction undefined" in seen
    assert describe.corrected(shown.summary.overall.corrected_answers) in seen
    assert "uncalibrated" not in seen
    assert "agrees with people on 85.0%" in seen
    assert "corrected for the judge" not in text_of(page)
