"""The goal in letters of another alphabet that look the same."""

from __future__ import annotations

from dataclasses import dataclass

from accord.redteam.attacks.encodings import Encoding, decode_confusables, encode_confusables


@dataclass(frozen=True)
class Confusables(Encoding):
    """Asks with Cyrillic look-alikes of Latin letters.

    Source: Boucher et al. 2021, "Bad Characters: Imperceptible NLP Attacks" (arXiv 2106.09898), homoglyphs.
    """

    encode = staticmethod(encode_confusables)
    decode = staticmethod(decode_confusables)
