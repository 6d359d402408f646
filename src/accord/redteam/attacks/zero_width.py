"""The goal with characters in it that nobody sees."""

from __future__ import annotations

from dataclasses import dataclass

from accord.redteam.attacks.encodings import Encoding, decode_zero_width, encode_zero_width


@dataclass(frozen=True)
class ZeroWidth(Encoding):
    """Asks with zero-width spaces inside the words: it looks the same and is tokenised differently.

    Source: Boucher et al. 2021, "Bad Characters: Imperceptible NLP Attacks" (arXiv 2106.09898), invisible characters.
    """

    encode = staticmethod(encode_zero_width)
    decode = staticmethod(decode_zero_width)
