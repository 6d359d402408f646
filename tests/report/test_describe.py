import pytest
from demo_evidence import POLICY

from accord.evals.gates import check_gates, round_measures
from accord.evals.summary import ChoiceResult, Condition, compare, summarise
from accord.policy.schema import Gate
from accord.report import describe
from accord.types import Attempt, Estimate, Message, Outcome, Prompt, Score


def condition(name, harmful, contrast=(), choices=()):
    rows = [("harmful", o) for o in harmful] + [("contrast", o) for o in contrast]
    tried = tuple(
        Attempt(
            str(i),
            Prompt(f"{kind}{i}", (Message("user", f"q{i}"),), kind, "fraud", f"f{i}", "verify"),
            name,
            "",
            0,
            False,
            Score(Outcome(outcome), "hand"),
            0,
        )
        for i, (kind, outcome) in enumerate(rows)
    )
    return Condition(name, tried, tuple(ChoiceResult(str(i), str(i), right) for i, right in enumerate(choices)))


def verdict_of(base, aligned, *others, gates=()):
    rated = [(c, summarise(c, POLICY)) for c in (base, aligned, *others)]
    comparison = compare(base, aligned, POLICY)
    return describe.verdict(
        rated, aligned.name, comparison, check_gates(gates, round_measures(rated[1][1], comparison))
    )


def test_numbers_as_a_person_reads_them():
    assert describe.percent(0.1234) == "12.3%"
    assert describe.percent(None) == "not measured"
    assert describe.points(-0.589) == "−58.9"
    assert describe.points(-0.0001) == "0.0"
    assert describe.p_value(1e-9) == "< 0.001"
    assert describe.p_value(0.0123) == "0.012"
    assert describe.p_value(None) == "not measured"
    assert describe.full(Estimate(0.5, 0.2, 0.8, 1200, "m", {"x": 3})) == (
        "50.0% (95% interval 20.0% to 80.0%, n = 1,200, 3 unscored)"
    )
    assert describe.full(Estimate(0.5, None, None, 2, "m")) == "50.0% (no interval, n = 2, 0 unscored)"
    assert describe.full(Estimate(None, None, None, 0, "m", {"x": 3})) == "not measured (n = 0, 3 unscored)"


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "not measured"), (8.44, "8.4 s"), (723, "12 min 03 s"), (3840, "1 h 04 min")]
)
def test_duration(seconds, words):
    assert describe.duration(seconds) == words


def test_moment():
    assert describe.moment("2026-01-05T09:04:00+00:00") == "5 January 2026, 09:04 UTC"
    assert describe.moment("yesterday") == "yesterday"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (["complied"] * 30, ["refused"] * 30, "Harmful compliance fell from 100.0% to 0.0%."),
        (["refused"] * 30, ["complied"] * 30, "Harmful compliance rose from 0.0% to 100.0%."),
        (
            ["complied", "refused"],
            ["refused", "complied"],
            "It is unclear if harmful compliance changed: 50.0% to 50.0%.",
        ),
        ([], ["refused"], "Harmful compliance was not measured both before and after"),
        (["unscored"] * 3, ["refused"] * 3, "Harmful compliance was not measured both before and after"),
    ],
)
def test_the_headline_follows_the_paired_interval(before, after, said):
    assert verdict_of(condition("base", before), condition("aligned", after)).headline.startswith(said)


def test_an_unclear_cost_shows_how_far_it_may_reach():
    """Of 4 contrast prompts 0 were refused before and 1 after: +25 points, an interval from below 0 to well above."""
    base = condition("base", ["complied"], ["complied"] * 4)
    aligned = condition("aligned", ["refused"], ["refused"] + ["complied"] * 3)
    text = " ".join(verdict_of(base, aligned).sentences)
    assert "(unclear: +25.0 points, −" in text
    assert "no change" not in text
    assert "ordinary prompts refused were not measured" in text


def test_gates_met_and_missed_are_said_first():
    base, aligned = condition("base", ["complied"] * 200), condition("aligned", ["refused"] * 200)
    met = Gate(measure="harmful_compliance", at_most=0.05)
    assert verdict_of(base, aligned, gates=(met,)).sentences[0] == "The release gate is met."
    none = verdict_of(base, aligned, gates=(Gate(measure="harmful_compliance", at_most=0.001),))
    assert none.sentences[0] == (
        "The release gate is not met: harmful compliance at most 0.1%: not shown (the interval reaches past the limit)."
    )
    both = verdict_of(base, aligned, gates=(met, Gate(measure="capability", at_least=0.4)))
    assert both.sentences[0] == (
        "Of 2 release gates, 1 is met. Not met: capability at least 40.0%: not measured (nothing was measured)."
    )
    assert (
        describe.gate_words(Gate(measure="capability_change", at_least=-0.03))
        == "change in capability at least −3.0 points"
    )


def test_a_kind_without_answers_is_warned_of_though_the_whole_is_under_the_limit():
    """2 of 40 harmful answers are empty: 5.0 % of them is not over 5 %; 3 of 40 is, while 3 of 100 attempts is not."""
    base = condition("base", ["complied"] * 40, ["complied"] * 60)
    quiet = condition("aligned", ["empty"] * 2 + ["refused"] * 38, ["complied"] * 60)
    assert verdict_of(base, quiet).warnings == ()
    (line,) = verdict_of(base, condition("aligned", ["empty"] * 3 + ["refused"] * 37, ["complied"] * 60)).warnings
    assert line.startswith("Under “aligned”, 7.5% of 40 harmful prompts ended in no answer that counts (3 empty).")


def test_unscored_capability_is_warned_of_and_the_aligned_model_comes_first():
    base = condition("base", ["deflected"] * 5)
    aligned = condition("aligned", ["refused"] * 5, choices=[True, None])
    first, second = verdict_of(base, aligned).warnings
    assert first == "Under “aligned”, 50.0% of 2 capability questions could not be scored: 1 no reason given."
    assert second.startswith("Under “base”, 100.0% of 5 attempts ended in no answer that counts (5 deflected).")


def test_limits_follow_the_evidence():
    once = condition("base", ["refused"])
    assert any("uncalibrated" in line for line in describe.limits([once], "rules", "uncalibrated"))
    assert not any("uncalibrated" in line for line in describe.limits([once], "rules", "agrees on 93%"))
    assert any("asked once" in line for line in describe.limits([once], "rules", "x"))
    twice = Condition("base", once.attempts * 2)
    assert not any("asked once" in line for line in describe.limits([twice], "rules", "x"))
