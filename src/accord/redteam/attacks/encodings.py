"""Ways to write a text that a person or a model can read back, and the ways back.

A filter that matches words does not see them in the encoded text. Each `decode_*` undoes its `encode_*` up to what the
docstring says is lost. Each has an attack of its own, in the file of its name.
"""

from __future__ import annotations

import abc
import base64
import codecs
import random
from collections.abc import Sequence
from typing import ClassVar

from accord.redteam.dressing import Dressed, Dressing, on_subject
from accord.redteam.target import Reader, Target, in_place
from accord.redteam.writer import looks_english
from accord.types import Prompt, Score

ZERO_WIDTH_SPACE = "\u200b"
_ZERO_WIDTH = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
_LEET = str.maketrans("aeiostAEIOST", "431057431057")
_FROM_LEET = str.maketrans("431057", "aeiost")
# Letters of other alphabets that most fonts draw like the Latin one (Unicode Technical Standard 39, confusables).
_LOOK = (
    "\u0430\u0441\u0435\u0456\u0458\u043e\u0440\u0455\u0445\u0443"
    "\u0410\u0412\u0421\u0415\u041d\u0406\u041a\u041c\u041e\u0420\u0422\u0425\u04ae"
)
_LOOKALIKES = dict(zip("aceijopsxyABCEHIKMOPTXY", _LOOK, strict=True))
_CONFUSABLE = str.maketrans(_LOOKALIKES)
_FROM_CONFUSABLE = str.maketrans({look: plain for plain, look in _LOOKALIKES.items()})
_BETWEEN_WORDS = "   "


def encode_base64(text: str) -> str:
    """Return the text's UTF-8 bytes in Base64 (RFC 4648)."""
    return base64.b64encode(text.encode()).decode("ascii")


def decode_base64(text: str) -> str:
    """Return what `encode_base64` was given."""
    return base64.b64decode(text).decode()


def encode_rot13(text: str) -> str:
    """Return the text with each Latin letter moved by 13 places."""
    return codecs.encode(text, "rot13")


def decode_rot13(text: str) -> str:
    """Return what `encode_rot13` was given: 13 places twice is the alphabet once round."""
    return codecs.decode(text, "rot13")


def encode_leetspeak(text: str) -> str:
    """Return the text with digits that look like letters in their place."""
    return text.translate(_LEET)


def decode_leetspeak(text: str) -> str:
    """Return the text in lower case; a digit that stood for itself comes back as the letter it looks like."""
    return text.translate(_FROM_LEET).lower()


def encode_zero_width(text: str) -> str:
    """Return the text with a zero-width space between every two letters of a word."""
    spaced = [
        ZERO_WIDTH_SPACE + letter if i and letter.isalpha() and text[i - 1].isalpha() else letter
        for i, letter in enumerate(text)
    ]
    return "".join(spaced)


def decode_zero_width(text: str) -> str:
    """Return the text without zero-width characters, also those that it had before."""
    return text.translate(_ZERO_WIDTH)


def encode_confusables(text: str) -> str:
    """Return the text with Latin letters replaced by Cyrillic ones that look the same."""
    return text.translate(_CONFUSABLE)


def decode_confusables(text: str) -> str:
    """Return the text with those Cyrillic letters as Latin ones; true Cyrillic text does not come back."""
    return text.translate(_FROM_CONFUSABLE)


def encode_letter_spacing(text: str) -> str:
    """Return the text with a space between the letters of a word, and three between words."""
    return _BETWEEN_WORDS.join(" ".join(word) for word in text.split())


def decode_letter_spacing(text: str) -> str:
    """Return the text with one space between words, however much white space it had."""
    return " ".join(word.replace(" ", "") for word in text.split(_BETWEEN_WORDS))


class Encoding(Dressing):
    """An attack that asks in an encoding. A subclass says which, and in what `frame` the encoded text is sent."""

    frame: ClassVar[str] = "{encoded}"

    @staticmethod
    @abc.abstractmethod
    def encode(text: str) -> str:
        """Return the text in the encoding."""

    @staticmethod
    @abc.abstractmethod
    def decode(text: str) -> str:
        """Return the text of an encoded one.

        Raises:
            ValueError: it is not in the encoding.
        """

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal in the encoding."""
        return [Dressed(in_place(goal, self.frame.format(encoded=self.encode(goal.messages[-1].content))))]

    def reader(self, goal: Prompt, dressed: Dressed, target: Target) -> Reader | None:
        """Return a reader that decodes an answer which is English only once decoded, and holds it to the goal's subject.

        A model that cannot read the encoding talks of anything, and that is no success.
        """

        async def read(answer: str) -> str | Score:
            return await on_subject(target, dressed.sent, self._plain(answer), goal.messages[-1].content)

        return read

    def _plain(self, answer: str) -> str:
        try:
            decoded = self.decode(answer.strip())
        except ValueError:
            return answer
        return decoded if looks_english(decoded) and not looks_english(answer) else answer
