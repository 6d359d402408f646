"""Personal data in text: e-mail addresses, telephone, card, bank and social-security numbers, network addresses.

Numbers that carry a check digit are checked (Luhn, ISO/IEC 7812; IBAN, ISO 13616), so that a long number is not taken for a card.
Left out: names and addresses, which no pattern finds; a version of four numbers looks like a network address. What is found is
shown masked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Bounded repetitions: a text without any match must not cost the square of its length.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}\b")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}"
    r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?!\d|\.\d)")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)")
# Domains and numbers that are set aside for examples (RFC 2606; 555-01xx and toll-free lines, which belong to nobody in person).
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|[.@])(?:example\.(?:com|net|org)|(?:[\w-]+\.)*(?:example|test|invalid|localhost))$", re.I
)
_NOBODYS_LINE = re.compile(r"^(?:1?8(?:00|33|44|55|66|77|88)\d{7}|1?\d{3}55501\d\d)$")
_CARD_DIGITS, _IBAN_SIGNS = 13, 15


@dataclass(frozen=True, slots=True)
class PersonalDatum:
    """What kind of personal data stands in a text, and the first and last of its characters."""

    kind: str
    masked: str


def personal_data(text: str) -> list[PersonalDatum]:
    """Return the personal data in a text, in the order of kinds; each stretch of text counts once."""
    found: list[PersonalDatum] = []
    taken = bytearray(len(text))
    for kind, pattern, within in _KINDS:
        for match in pattern.finditer(text):
            datum = within(match[0])
            start, end = match.start(), match.start() + len(datum)
            if datum and not any(taken[start:end]):
                taken[start:end] = b"\1" * len(datum)
                found.append(PersonalDatum(kind, f"{datum[:2]}…{datum[-2:]}"))
    return found


def _longest(least: int, holds: Callable[[str], bool]) -> Callable[[str], str]:
    """What follows a number may look like more of it (an expiry date, the next word): its longest part that checks is taken."""

    def within(text: str) -> str:
        return next((part for part in _parts(text, least) if holds(part)), "")

    return within


def _parts(text: str, least: int) -> Iterator[str]:
    """Return a text and its beginnings that end before a space or a hyphen, the longest first, of so many signs or more."""
    for end in (len(text), *(i for i in range(len(text) - 1, 0, -1) if text[i] in " -")):
        if len(re.sub(r"[ -]", "", text[:end])) >= least:
            yield text[:end]


def _if(holds: Callable[[str], bool]) -> Callable[[str], str]:
    return lambda text: text if holds(text) else ""


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _luhn(text: str) -> bool:
    """Every second digit from the right doubled, nines cast out: the sum is a multiple of ten. One digit alone is no card."""
    digits = [int(d) for d in _digits(text)]
    total = sum(d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits)))
    return total % 10 == 0 and len(set(digits)) > 1


def _iban(text: str) -> bool:
    """The first four characters moved to the end, letters as 10 to 35: the number is 1 modulo 97."""
    plain = text.replace(" ", "")
    moved = plain[4:] + plain[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def _public_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], str]], ...] = (
    ("e-mail address", _EMAIL, _if(lambda text: not _EXAMPLE_DOMAIN.search(text))),
    ("bank account", _IBAN, _longest(_IBAN_SIGNS, _iban)),
    ("card number", _CARD, _longest(_CARD_DIGITS, _luhn)),
    ("social security number", _SSN, _if(lambda _: True)),
    ("network address", _IPV4, _if(_public_address)),
    ("telephone number", _PHONE, _if(lambda text: not _NOBODYS_LINE.match(_digits(text)))),
)
