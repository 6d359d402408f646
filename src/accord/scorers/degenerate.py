"""Text that is no answer at all: empty, looping, garbled, an echo of the prompt, or unfinished reasoning.

Word salad in good spelling is not recognised: that takes a language model, and a guess would hide real answers.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from accord.scorers.normalise import words

LOOPING = "looping text"
GARBLED = "garbled text"
ECHO = "repeats the prompt"
UNFINISHED = "reasoning without an answer"

_CHARACTER_RUN = re.compile(r"(\S)\1{24,}|(\S{2,4}?)\2{14,}")
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THOUGHT = re.compile(r"^\s*<think(?:ing)?>", re.IGNORECASE)
_TABLE_ROW = re.compile(r"^\s*\|.*$", re.MULTILINE)
_LATIN_WORD = re.compile(r"[a-z]+")
_UNSAYABLE = re.compile(r"[^aeiouy]{6}|^[^aeiouy]+$|.{29}")
_REPEATS = 4
_LONGEST_PERIOD = 40


def without_thoughts(answer: str) -> str:
    """Return the answer without finished `<think>` blocks: what a reasoning model says to itself is not its answer."""
    return _THOUGHT.sub(" ", answer).strip()


def is_empty(answer: str) -> bool:
    """Whether a folded answer is nothing but space and punctuation; a pictogram says something."""
    return not any(c.isalnum() or (c != "\ufffd" and unicodedata.category(c) == "So") for c in answer)


def degeneracy(prompt: str, answer: str) -> str:
    """Return why `answer` cannot be read as an answer to `prompt`, or an empty string; both must be folded."""
    if _OPEN_THOUGHT.match(answer):
        return UNFINISHED
    tokens = words(answer)
    if _garbled(answer) or (not tokens and "emoji" not in prompt.lower()):
        return GARBLED
    if _CHARACTER_RUN.search(answer) and len(tokens) < 40:
        return LOOPING
    # Rows of a table repeat by nature.
    if _loops(words(_TABLE_ROW.sub(" ", answer)) if "|" in answer else tokens):
        return LOOPING
    # A greeting may well be returned word for word.
    if (prompt.endswith("?") or len(words(prompt)) >= 6) and _echoes(words(prompt), tokens):
        return ECHO
    return ""


def _loops(tokens: list[str]) -> bool:
    """Whether half of the words are one unit of at most 40 words said four times running, or n-grams hardly vary.

    The share keeps a chorus or a table apart: it repeats, but most of the answer does not.
    """
    n = len(tokens)
    grams = Counter(zip(tokens, tokens[1:], tokens[2:], strict=False))
    # Four repeats over half of the words leave at most 5/8 of the trigrams distinct: most answers stop here.
    if n < 20 or len(grams) > 0.7 * (n - 2):
        return False
    for period in range(1, min(_LONGEST_PERIOD, n // _REPEATS) + 1):
        run = longest = 0
        for i in range(period, n):
            run = run + 1 if tokens[i] == tokens[i - period] else 0
            longest = max(longest, run)
        needed = max((_REPEATS - 1) * period, 8)
        if longest >= needed and longest + period >= n / 2:
            return True
    return n >= 48 and len(grams) < 0.25 * (n - 2)


def _garbled(answer: str) -> bool:
    visible = [c for c in answer if not c.isspace()]
    if not visible:
        return False
    if answer.count("\ufffd") > 0.03 * len(visible):
        return True
    if "```" in answer:
        return False
    if len(visible) >= 20 and sum(c.isalnum() for c in visible) < 0.3 * len(visible):
        return True
    latin = [w for w in _LATIN_WORD.findall(answer.lower()) if len(w) > 2]
    if len(latin) < 8:
        return len(latin) == 1 and len(latin[0]) > 60
    return sum(1 for w in latin if _UNSAYABLE.search(w)) > 0.5 * len(latin)


def _echoes(prompt: list[str], answer: list[str]) -> bool:
    """Whether the answer starts as the prompt starts and is made of it; an extract or a correction starts elsewhere."""
    if len(prompt) < 3 or len(answer) < 3:
        return False
    head = min(6, len(prompt))
    if answer[:head] != prompt[:head]:
        return False
    if len(prompt) < 6 or len(answer) < 6:
        return answer == prompt[: len(answer)] or answer == prompt
    grams = set(zip(prompt, prompt[1:], prompt[2:], strict=False))
    ours = list(zip(answer, answer[1:], answer[2:], strict=False))
    return sum(g in grams for g in ours) >= 0.8 * len(ours)
