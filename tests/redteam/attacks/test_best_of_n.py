import random

import pytest
from fixed_targets import TEXT, FixedTarget, last, outcomes, put
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import SettingsError
from accord.redteam.attacks.best_of_n import BestOfN, augmented


def test_it_draws_until_one_change_gets_through_and_stops_there():
    """The weakness: a filter on the word itself, and an ear for its letters in any order or case."""

    def weak(request):
        return sorted("cupboard") in [sorted(w.lower()) for w in last(request).split()] and "cupboard" not in last(
            request
        )

    target = put(BestOfN(), FixedTarget(weak))
    assert outcomes(target) == ["refused"] * (len(target.attempts) - 1) + ["complied"]
    assert len(target.attempts) < 12


def test_the_whole_budget_is_spent_on_prompts_that_all_differ():
    target = put(BestOfN(), FixedTarget(), 12)
    assert len({a.sent[-1].content for a in target.attempts}) == 12


@given(st.text(), st.integers())
def test_strength_nought_changes_nothing(text, seed):
    assert augmented(text, 0, random.Random(seed)) == text


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"])), st.integers())
def test_shuffling_keeps_first_and_last_letters_and_the_number_of_words(text, seed):
    """At a strength where noise is rare (0.05 cubed), what changes is order and case."""
    found = augmented(text, 0.05, random.Random(seed))
    assert len(found) == len(text)
    assert [len(w) for w in found.split(" ")] == [len(w) for w in text.split(" ")]


def test_the_shares_are_those_of_the_paper():
    """With sigma 0.4 a letter's case flips with 0.4^0.5 = 0.632 and a character moves with 0.4^3 = 0.064.

    Of 20,000 letters `m` (in words of one letter, so that nothing is shuffled) the standard error is 0.0034 and 0.0017.
    """
    found = augmented("m " * 20_000, 0.4, random.Random(0)).split()
    assert sum(c.isupper() for c in found) / 20_000 == pytest.approx(0.4**0.5, abs=0.014)
    assert sum(c.lower() != "m" for c in found) / 20_000 == pytest.approx(0.4**3, abs=0.007)


def test_words_are_shuffled_inside():
    """Of 400 words "abcdefgh" about 0.1^0.5 = 0.316 are shuffled, and 0.1^3 of the characters move, too few to matter."""
    words = [w.lower() for w in augmented("abcdefgh " * 400, 0.1, random.Random(2)).split()]
    shuffled = [w for w in words if sorted(w) == sorted("abcdefgh") and w != "abcdefgh"]
    assert 90 < len(shuffled) < 165
    assert {w[0] + w[-1] for w in shuffled} == {"ah"}


def test_an_impossible_strength_is_refused():
    with pytest.raises(SettingsError, match="from 0 to 1"):
        BestOfN(sigma=1.5)


def test_the_goal_is_still_there():
    words = {"".join(sorted(w.lower())) for w in augmented(TEXT, 0.4, random.Random(1)).split()}
    assert len(words & {"".join(sorted(w.lower())) for w in TEXT.split()}) >= 5
