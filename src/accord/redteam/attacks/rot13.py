"""The goal in ROT13."""

from __future__ import annotations

from dataclasses import dataclass

from accord.redteam.attacks.encodings import Encoding, decode_rot13, encode_rot13


@dataclass(frozen=True)
class Rot13(Encoding):
    """Asks in ROT13, a cipher that models know from the web.

    Source: Yuan et al. 2023, "GPT-4 Is Too Smart To Be Safe: Stealthy Chat with LLMs via Cipher" (arXiv 2308.06463).
    """

    encode = staticmethod(encode_rot13)
    decode = staticmethod(decode_rot13)
