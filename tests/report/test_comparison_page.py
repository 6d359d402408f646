import re
from dataclasses import replace

import pytest
from demo_comparison import NAMES, found, runs
from reading import Tags, loads_nothing, text_of

from accord.evals.comparison import compare_runs
from accord.report import compared, describe
from accord.report.comparison_page import render_comparison, write_comparison
from accord.types import Estimate


@pytest.fixture(scope="module")
def page():
    return render_comparison(found(), runs())


def test_every_number_stands_with_its_interval_n_and_unscored(page):
    seen = text_of(page)
    for c in found().metrics:
        for e in (c.before, c.after):
            shown = f"{compared.value(c, e)}{compared.value_interval(c, e)}{describe.counts(e)}"
            assert shown in seen.replace(" " + describe.counts(e), describe.counts(e))
        if c.difference.value is not None:
            assert f"{compared.difference(c)}{compared.difference_interval(c)}" in seen
            assert f"{describe.p_value(c.p_adjusted)}unadjusted {describe.p_value(c.p_value)}" in seen
        assert compared.no_pairs(c) in seen
        assert compared.needed(c) in seen


def test_what_could_not_be_scored_comes_first_and_nothing_measured_is_no_zero(page):
    seen = text_of(page)
    first = seen.index("toxic share (toxicity): 100.0% of 20 items of A could not be scored (20 timed out)")
    assert seen.index("Read this first") < first < seen.index("B is better in")
    assert "1 was not measured" in seen
    toxicity = found().metrics[-1]
    assert (toxicity.change, toxicity.difference.value) == ("not measured", None)
    assert not re.search(r"\b0 in A only", seen)


def test_the_headline_claims_only_what_is_shown(page):
    seen = text_of(page)
    c = {m.name: m for m in found().metrics}
    assert c["harm/harmful_compliance"].change == "better"
    assert c["gsm8k/accuracy"].change == "worse"
    assert c["over_refusal/refusal_rate"].change == "unclear"
    assert "B is worse in accuracy (gsm8k)" in seen
    assert "5 comparisons were made" in seen
    assert "Not compared, since one run lacks them: xstest/refusal_rate" in seen
    same = compare_runs(runs()[0], runs()[0], NAMES)
    assert compared.headline(same).startswith("None of 6 measures is shown to differ.")
    assert "same model" in text_of(render_comparison(same, (runs()[0], runs()[0])))


def test_a_scale_of_its_own_is_no_percentage(page):
    reward = next(m for m in found().metrics if m.suite == "reward")
    assert "%" not in compared.value(reward, reward.before) + compared.difference(reward)
    assert "points" not in compared.difference(reward)


def test_the_sought_difference_sets_the_need():
    c = found(sought=0.05).metrics[0]
    assert compared.needed(c).startswith(f"{c.n_needed:,} pairs for 5.0 points (80% power)")


def test_the_page_loads_nothing(page):
    assert loads_nothing(page) == 2
    tables = [
        dict(attributes) for tag, attributes in Tags(page).tags if tag == "div" and attributes.get("role") == "region"
    ]
    assert [t["aria-label"] for t in tables] == ["Every measure", "Pairs"]


def test_hostile_names_stay_text(tmp_path):
    bad = "<script>x</script>\x00\u202e{{ 7*7 }}"
    named = compare_runs(*runs(), (bad, "<b>B"))
    hostile = [replace(run, model=bad) for run in runs()]
    text = write_comparison(named, hostile, tmp_path / "c.html").read_text(encoding="utf-8")
    assert "script" not in {tag for tag, _ in Tags(text).tags}
    assert "{{ 7*7 }}" in text
    assert "\x00" not in text


def test_corrected_rates_stand_beside_a_run_s_own_where_it_has_them(page):
    corrected = Estimate(0.61, 0.5, 0.72, 200, "Rogan-Gladen", {}, "corrected for rules")
    before, after = runs()
    harm = replace(before.results[0], corrected=corrected)
    of = compare_runs(replace(before, results=(harm, *before.results[1:])), after, NAMES)
    seen = text_of(render_comparison(of, (before, after)))
    assert f"{describe.counts(of.metrics[0].before)}corrected 61.0% 50.0% to 72.0%" in seen
    assert seen.count("corrected 6") == 1
    assert "corrected 6" not in text_of(page)
