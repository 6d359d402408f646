import time

import pytest

from accord.data.personal import personal_data


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to ana.silva+news@correio.pt soon", "e-mail address"),
        ("call (256) 348-1915 after six", "telephone number"),
        ("ring +44 20 7946 0018.", "telephone number"),
        ("my card is 4111 1111 1111 1111", "card number"),
        ("pay into DE89 3704 0044 0532 0130 00, please", "bank account"),
        ("SSN 123-45-6789", "social security number"),
        ("the server at 8.8.8.8 answers", "network address"),
        ("My card is 4111111111111111.", "card number"),
        ("4111 1111 1111 1111 12/27", "card number"),
        ("4111 1111 1111 1111 123", "card number"),
        ("IBAN DE89 3704 0044 0532 0130 00 BIC COBADEFFXXX", "bank account"),
        ("GB82 WEST 1234 5698 7654 32 TODAY", "bank account"),
        ("server 8.8.8.8.", "network address"),
    ],
)
def test_what_is_found(text, kind):
    assert [d.kind for d in personal_data(text)] == [kind]


@pytest.mark.parametrize(
    "text",
    [
        "write to ana@example.com or to root@mail.test",  # RFC 2606: nobody's
        "call 1-800-273-8255 or 555-555-0100",  # toll-free lines and 555-01xx belong to nobody in person
        "card 4111 1111 1111 1112",  # Luhn: the last digit is wrong
        "DE90 3704 0044 0532 0130 00",  # ISO 13616: not 1 modulo 97
        "000-12-3456 and 123-00-4567",  # never issued
        "192.168.0.1, 127.0.0.1 and 999.1.1.1",  # private, this machine, none
        "0000 0000 0000 0000",
        "the sum of 1234567890123 and 3.141592653589793",
        "version 2.10.3, pages 100-200 of 1200",
        "in 1998, 2003 and 2010",
        "",
    ],
)
def test_what_is_not(text):
    assert personal_data(text) == []


def test_a_stretch_of_text_counts_once_and_is_masked():
    """A bank account's digits are no telephone number besides."""
    found = personal_data("DE89370400440532013000 and bob@corp.org")
    assert [(d.kind, d.masked) for d in found] == [("e-mail address", "bo…rg"), ("bank account", "DE…00")]


def test_luhn_by_hand():
    """79927398713: doubled from the right 1->2, 8->16->7, 3->6, 2->4, 9->18->9; 3+2+7+7+9+6+7+4+9+9+7 = 70. As a card: 16 digits.

    4539 1488 0343 6467: 7+(6->12->3)+4+(6->12->3)+3+(4->8)+3+(0)+8+(8->16->7)+4+(1->2)+9+(3->6)+5+(4->8) = 80.
    """
    assert [d.kind for d in personal_data("4539148803436467")] == ["card number"]
    assert personal_data("4539148803436468") == []


@pytest.mark.parametrize("text", ["a." * 200_000, "a@" * 200_000, "1 " * 200_000, "AB12" * 100_000, "1" * 400_000])
def test_a_long_text_costs_no_square_of_its_length(text):
    """400,000 signs: a pattern that backtracks over all of them would take minutes."""
    began = time.process_time()
    personal_data(text)
    assert time.process_time() - began < 20
