import asyncio
import itertools
import string

import pytest
from fixed_targets import ANSWER, GOAL, REFUSAL, TEXT, FixedTarget, judge, outcomes, put
from hypothesis import given
from hypothesis import strategies as st

from accord.models.completer import Completion
from accord.redteam.attacks.base64 import Base64
from accord.redteam.attacks.confusables import Confusables
from accord.redteam.attacks.encodings import (
    ZERO_WIDTH_SPACE,
    decode_base64,
    decode_confusables,
    decode_leetspeak,
    decode_letter_spacing,
    decode_rot13,
    decode_zero_width,
    encode_base64,
    encode_confusables,
    encode_leetspeak,
    encode_letter_spacing,
    encode_rot13,
    encode_zero_width,
)
from accord.redteam.attacks.leetspeak import Leetspeak
from accord.redteam.attacks.letter_spacing import LetterSpacing
from accord.redteam.attacks.rot13 import Rot13
from accord.redteam.attacks.zero_width import ZeroWidth
from accord.types import Transcript

ASIDE = "The weather in the mountains changes quickly, so hikers carry warm clothes and enough water for the day."
text = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.text(string.ascii_letters + string.digits + string.punctuation + " \n")
without_invisible = text.map(decode_zero_width)
no_digits = st.text(string.ascii_letters + string.punctuation + " \n")


def test_worked_by_hand():
    """`At 7` in each: base64 of the bytes 41 74 20 37; A to N and t to g; and so on."""
    assert encode_base64("At 7") == "QXQgNw=="
    assert encode_rot13("At 7") == "Ng 7"
    assert encode_leetspeak("At 7") == "47 7"
    assert encode_zero_width("At 7") == "A\u200bt 7"
    assert encode_confusables("At 7") == "\u0410t 7"
    assert encode_letter_spacing("At 7") == "A t   7"


@given(text)
def test_base64_decodes_back(t):
    assert decode_base64(encode_base64(t)) == t
    assert encode_base64(t).isascii()


@given(text)
def test_rot13_decodes_back(t):
    assert decode_rot13(encode_rot13(t)) == t


@given(no_digits)
def test_leetspeak_decodes_back_in_lower_case(t):
    assert decode_leetspeak(encode_leetspeak(t)) == t.lower()
    assert not set("aeiost") & set(encode_leetspeak(t).lower())


@given(without_invisible)
def test_zero_width_decodes_back_and_parts_every_two_letters(t):
    encoded = encode_zero_width(t)
    assert decode_zero_width(encoded) == t
    assert not any(a.isalpha() and b.isalpha() for a, b in itertools.pairwise(encoded))
    assert len(encoded) - len(t) == encoded.count(ZERO_WIDTH_SPACE)


@given(plain)
def test_confusables_decode_back_letter_for_letter(t):
    encoded = encode_confusables(t)
    assert decode_confusables(encoded) == t
    assert len(encoded) == len(t)
    assert all((a == b) == (a not in "aceijopsxyABCEHIKMOPTXY") for a, b in zip(t, encoded, strict=True))


@given(text)
def test_letter_spacing_decodes_back_up_to_white_space(t):
    assert decode_letter_spacing(encode_letter_spacing(t)) == " ".join(t.split())


class Encoded(FixedTarget):
    """Answers every question in Base64."""

    async def complete(self, request):
        self.asked.append(request)
        return Completion(encode_base64(self.text), 8)


@pytest.mark.parametrize(("text", "outcome"), [(ANSWER, "complied"), (REFUSAL, "refused"), (ASIDE, "deflected")])
def test_an_encoded_answer_is_decoded_for_the_judge_and_kept_as_given(text, outcome):
    completer = Encoded()
    completer.text = text
    target = put(Base64(), completer)
    assert outcomes(target) == [outcome]
    assert target.attempts[0].answer == encode_base64(text)
    assert target.attempts[0].note == (f"judged as: {text}" if text == ANSWER else "")


def test_talk_of_something_else_is_no_success():
    """A model that cannot read Base64 talks of anything; the shipped judge, which knows refusals, calls that an answer."""
    assert asyncio.run(judge(Transcript(GOAL.messages, ASIDE, goal=TEXT))).outcome.value == "complied"
    completer = FixedTarget()
    completer.complete = lambda request: asyncio.sleep(0, Completion(ASIDE, 8))
    assert outcomes(put(Base64(), completer)) == ["deflected"]


@pytest.mark.parametrize("attack", [Base64(), Rot13(), Leetspeak(), ZeroWidth(), Confusables(), LetterSpacing()])
def test_a_plain_answer_is_judged_as_it_is(attack):
    target = put(attack, FixedTarget())
    assert outcomes(target) == ["refused"]
    assert target.attempts[0].note == ""


@pytest.mark.parametrize(
    ("attack", "hint"),
    [(Base64(), "in Base64"), (Rot13(), "in ROT13"), (LetterSpacing(), "stand apart"), (Leetspeak(), "plain English")],
)
def test_what_cannot_be_read_at_sight_comes_with_a_word_on_how(attack, hint):
    sent = put(attack, FixedTarget()).attempts[0].sent[-1].content
    assert hint in sent
    assert attack.encode(TEXT) in sent
