"""Personal data in text: e-mail addresses, telephone, card, bank and social-security numbers, network addresses.

Numbers that carry a check digit are checked (Luhn, ISO/IEC 7812; IBAN, ISO 13616), so that a long number is not taken for a card.
Left out: names and addresses, which no pattern finds; a version of four numbers looks like a network address. What is found is
shown masked.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

_EMAIL = re.compile(r"\b[\w.+-]+@(?:[\w-]+\.)+[A-Za-z]{2,}\b")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?![\w-])"
)
_CARD = re.compile(r"(?<![\d.])(?:\d[ -]?){12,18}\d(?![\d.])")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
_SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
# Domains and numbers that are set aside for examples (RFC 2606; 555-01xx and toll-free lines, which belong to nobody in person).
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|[.@])(?:example\.(?:com|net|org)|(?:[\w-]+\.)*(?:example|test|invalid|localhost))$", re.I
)
_NOBODYS_LINE = re.compile(r"^(?:1?8(?:00|33|44|55|66|77|88)\d{7}|1?\d{3}55501\d\d)$")


@dataclass(frozen=True, slots=True)
class PersonalDatum:
    """What kind of personal data stands in a text, and the first and last of its characters."""

    kind: str
    masked: str


def personal_data(text: str) -> list[PersonalDatum]:
    """Return the personal data in a text, in the order of kinds; each stretch of text counts once."""
    found: list[PersonalDatum] = []
    taken: list[tuple[int, int]] = []
    for kind, pattern, holds in _KINDS:
        for match in pattern.finditer(text):
            start, end = match.span()
            if any(start < b and a < end for a, b in taken) or not holds(match[0]):
                continue
            taken.append((start, end))
            found.append(PersonalDatum(kind, _mask(match[0])))
    return found


def _mask(text: str) -> str:
    return f"{text[:2]}…{text[-2:]}"


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


_KINDS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("e-mail address", _EMAIL, lambda text: not _EXAMPLE_DOMAIN.search(text)),
    ("bank account", _IBAN, _iban),
    ("card number", _CARD, _luhn),
    ("social security number", _SSN, lambda _: True),
    ("network address", _IPV4, _public_address),
    ("telephone number", _PHONE, lambda text: not _NOBODYS_LINE.match(_digits(text))),
)
