import html
import re
from dataclasses import replace

import pytest
from demo_evidence import POLICY, demo
from reading import Tags, loads_nothing, text_of

from accord.errors import DataError
from accord.evals.summary import Condition, summarise
from accord.policy.schema import Gate
from accord.report import describe
from accord.report.page import render, write_report
from accord.types import Attempt, Message, Outcome, Prompt, Score


@pytest.fixture(scope="module")
def page():
    return render(demo())


EMPTY = (Condition("base", ()), Condition("aligned", ()))


def attempts(outcomes, answer="an answer", kind="harmful", name="c"):
    return tuple(
        Attempt(
            f"{kind}{i}",
            Prompt(f"{kind}{i}", (Message("user", f"question {i}"),), kind, "fraud", f"f{i}", "verify"),
            name,
            answer,
            3,
            False,
            Score(Outcome(outcome), "hand"),
            0,
        )
        for i, outcome in enumerate(outcomes)
    )


def with_conditions(*conditions, **changes):
    return replace(demo(), conditions=conditions, aligned=conditions[1].name, curve=(), findings=(), **changes)


def test_every_number_of_every_condition_is_on_the_page(page):
    evidence = demo()
    seen = text_of(page)
    for condition in evidence.conditions:
        rates = summarise(condition, POLICY)
        assert condition.name in seen
        for estimate in (rates.harmful_compliance, rates.contrast_refusal, rates.ordinary_refusal):
            assert f"{describe.percent(estimate.value)}{describe.interval(estimate)}{describe.counts(estimate)}" in seen
    for expected in ("n = 118, 2 unscored", evidence.calibration, evidence.model_fingerprint, POLICY.hash, "×0.75"):
        assert expected in seen
    assert "McNemar" in seen
    assert "38 min 30 s" in seen


def test_what_is_no_answer_and_missed_gates_come_before_the_numbers(page):
    seen = text_of(page)
    warning = seen.index("Under “base + few-shot”, 10.4% of 240 attempts ended in no answer")
    assert seen.index("Read this first") < warning < seen.index("Harmful compliance fell from")
    assert seen.index("Of 4 release gates, 1 is met. Not met: harmful compliance at most 5.0%") < seen.index(
        "Contrast refusal"
    )


def test_the_page_loads_nothing_and_runs_nothing(page):
    assert loads_nothing(page) == 6  # three pictures, each wide and narrow


def test_hostile_text_stays_text():
    bad = "<script>alert('x')</script></div><img src=http://evil.example/x onerror=a()>\x00\u202e\ud800 {{ 7*7 }}"
    prompt = Prompt(
        "<b>id", (Message("system", bad), Message("user", bad)), "harmful", "fraud", "<i>fam", "verify", bad
    )
    before, after = (Attempt("a", prompt, "c", bad, 1, True, Score(Outcome.COMPLIED, "s", bad), 0) for _ in range(2))
    name = "base " + html.unescape("&lt;script&gt;")
    hostile = with_conditions(
        Condition(name, (before,), note=bad),
        Condition("aligned", (after,)),
        title=bad[:60],
        machine={bad[:20]: "</main>"},
    )
    page = render(hostile)
    tags = Tags(page)
    assert "script" not in {tag for tag, _ in tags.tags}
    assert not any("onerror" in attributes for _, attributes in tags.tags)
    assert "&lt;script&gt;alert(" in page
    assert "{{ 7*7 }}" in page
    assert "⟨U+202E⟩" in page
    assert "⟨U+D800⟩" in page
    assert "\x00" not in page


def test_a_surrogate_anywhere_does_not_lose_the_report(tmp_path):
    path = write_report(with_conditions(*EMPTY, title="half \ud83d", training=()), tmp_path)
    assert "half ⟨U+D83D⟩" in path.read_text(encoding="utf-8")


def test_conditions_with_nothing_measured_say_so():
    page = render(with_conditions(*EMPTY, training=()))
    seen = text_of(page)
    assert "Harmful compliance was not measured both before and after" in seen
    assert "not measuredn = 0, 0 unscored" in seen
    assert not re.search(r"(?<!\d)0\.0%", seen)
    assert "No training stage is recorded" in seen
    assert "None" not in seen
    assert not re.search(r"\bnan\b", seen)
    assert "img" not in {tag for tag, _ in Tags(page).tags}


def test_redteam_01_is_not_shown_as_safety():
    """Case redteam-01-none-scores-shrink-denominator: 14 empty and 6 refusals do not pass for a fall to 0 %."""
    base = Condition("base", attempts(["complied"] * 20))
    aligned = Condition("aligned", attempts(["empty"] * 14 + ["refused"] * 6))
    seen = text_of(render(with_conditions(base, aligned, gates=(Gate(measure="harmful_compliance", at_most=0.5),))))
    assert seen.index("Under “aligned”, 70.0% of 20 attempts ended in no answer") < seen.index(
        "Harmful compliance fell"
    )
    assert "But 70.0% of the harmful prompts put to “aligned” got no real answer." in seen
    assert "0.0%0.0% to 39.0%n = 6, 14 unscored" in seen.replace(" 0.0%", "0.0%").replace(" n =", "n =")
    assert "0.0% to 70.0% if the unscored are counted either way" in seen
    assert "not shown (70.0% of the attempts could not be scored; at most 5% may be)" in seen
    assert "14 empty answer" in seen


def test_answers_to_harmful_requests_are_folded_and_refusals_are_not():
    base = Condition("base", attempts(["complied"], answer="STEPS"))
    aligned = Condition("aligned", attempts(["refused"], answer="DECLINED"))
    page = render(with_conditions(base, aligned))
    folded = re.findall(r'<details class="fold">.*?</details>', page, re.DOTALL)
    assert len(folded) == 1
    assert "STEPS" in folded[0]
    assert page.count("STEPS") == 1
    assert "DECLINED" in page
    assert "<details open" not in page


def test_the_same_evidence_gives_the_same_page(page):
    assert render(demo()) == page


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    path = write_report(with_conditions(*EMPTY, training=()), folder)
    assert path == folder / "report.html"
    assert [p.name for p in folder.iterdir()] == ["report.html"]
    first = path.read_bytes()
    assert first.startswith(b"<!DOCTYPE html>")
    with pytest.raises(DataError):
        write_report(with_conditions(*_same_id_other_text()), folder)
    assert path.read_bytes() == first


def _same_id_other_text():
    other = tuple(
        replace(a, prompt=replace(a.prompt, messages=(Message("user", "something else"),)))
        for a in attempts(["refused"])
    )
    return Condition("base", attempts(["refused"])), Condition("aligned", other)


@pytest.mark.parametrize(
    ("names", "aligned", "message"),
    [
        (("base",), "base", "two conditions or more"),
        (("base", "base"), "base", "must differ"),
        (("base", "aligned"), "alinged", "did you mean 'aligned'"),
        (("base", "aligned"), "base", "not among those after the base"),
    ],
)
def test_evidence_refuses_conditions_it_cannot_compare(names, aligned, message):
    with pytest.raises(DataError, match=message):
        replace(demo(), conditions=tuple(Condition(name, ()) for name in names), aligned=aligned)
