import itertools
import string

from hypothesis import given
from hypothesis import strategies as st

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
