import pytest
from demo_evidence import POLICY

from accord.evals.summary import Condition
from accord.report.transcripts import folded, printable, side_by_side
from accord.types import Attempt, Message, Outcome, Prompt, Score


def attempt(i, outcome, kind="harmful", clause="fraud"):
    prompt = Prompt(f"{kind}{i}", (Message("user", f"q{i}"),), kind, clause, f"f{i}", "verify")
    return Attempt(str(i), prompt, "c", "text", 1, False, Score(Outcome(outcome), "hand"), 0)


def conditions(rows, **where):
    before = Condition("base", tuple(attempt(i, b, **where) for i, (b, _) in enumerate(rows)))
    return before, Condition("aligned", tuple(attempt(i, a, **where) for i, (_, a) in enumerate(rows)))


def test_groups_come_worst_first_and_count_all():
    rows = [("complied", "refused")] * 3 + [("complied", "empty")] + [("complied", "complied")] * 2
    (section,) = side_by_side(*conditions(rows), POLICY, shown=1)
    assert (section.kind, section.n) == ("harmful", 6)
    assert [(g.after, g.wanted, g.n, len(g.pairs)) for g in section.groups] == [
        ("complied", False, 2, 1),
        ("empty", None, 1, 1),
        ("refused", True, 3, 1),
    ]


def test_what_is_wanted_depends_on_kind_and_clause():
    (benign,) = side_by_side(*conditions([("complied", "refused")], kind="contrast"), POLICY)
    assert benign.groups[0].wanted is False
    (care,) = side_by_side(*conditions([("complied", "partial")], clause="self-harm"), POLICY)
    assert care.groups[0].wanted is True
    (strict,) = side_by_side(*conditions([("complied", "partial")]), POLICY)
    assert strict.groups[0].wanted is False
    assert side_by_side(Condition("a", ()), Condition("b", ()), POLICY) == ()


@pytest.mark.parametrize("outcome", ["complied", "partial", "unscored", "deflected", "error"])
def test_what_may_be_harmful_is_folded(outcome):
    assert folded(attempt(0, outcome))
    assert not folded(attempt(0, outcome, kind="contrast"))


@pytest.mark.parametrize("outcome", ["refused", "blocked", "empty"])
def test_what_gives_nothing_is_not(outcome):
    assert not folded(attempt(0, outcome))


def test_control_characters_are_shown():
    assert printable("a\r\nb\tc") == "a\nb\tc"
    assert printable("\x00\x1b\x7f") == "␀␛⟨U+007F⟩"
    assert printable("\u202eevil\u2066\ud800") == "⟨U+202E⟩evil⟨U+2066⟩⟨U+D800⟩"
    assert printable("naïve 日本 🙂") == "naïve 日本 🙂"
