"""Text in the one form that matching may assume, and its sentences.

`fold` keeps case and wording and removes what a reader cannot see; `canonical` goes on to lower case and written-out
contractions. Stored answers are never replaced by either. Left out: homoglyphs of other alphabets (an attack on a
filter, not something a model writes by accident) and every language but English.
"""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from dataclasses import dataclass
from typing import Literal

Layout = Literal["prose", "bullet", "ordered", "code"]

# U+00B4 and U+2032 decompose under NFKC into a space and an accent, so apostrophes are mapped before it.
_APOSTROPHES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02b9\u02bb\u02bc\u02bd\u02c8\u2032\u055a\ua78b\ua78c\uff07", "'")
)
_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb\u300c\u300d\uff02", '"'))
_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"))
# Backtick and acute accent are apostrophes only inside a word; elsewhere they are code and typography.
_WORD_TICK = re.compile(r"(?<=[^\W\d_])[`\u00b4](?=[^\W\d_])")
_UNSEEN_ASCII = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")
_CONTROL_TOKEN = re.compile(
    r"<\|[^<>|]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:pad|eos|bos|unk|sep|cls)>|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)
_SPACES = re.compile(r"[^\S\n]+")
# Cf holds zero-width characters, soft hyphens and direction marks; they separate nothing that a reader sees.
_UNSEEN = re.compile(
    "["
    + "".join(
        re.escape(c)
        for c in map(chr, range(sys.maxunicode + 1))
        if c not in "\n\t" and unicodedata.category(c) in ("Cf", "Cc", "Cs")
    )
    + "]+"
)

# Contractions are also typed without their apostrophe; "ill", "id" and "were" are left, being words of their own.
_BARE = re.compile(r"\b(?:can not|cant|wont|im|gonna|wanna|(?:do|does|did|is|are|was|were|could|would|should)nt)\b")
_BARE_FORMS = {
    "can not": "cannot",
    "cant": "cannot",
    "wont": "will not",
    "im": "i am",
    "gonna": "going to",
    "wanna": "want to",
}
_CONTRACTIONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"\bcan't\b", "cannot"),
        (r"\bwon't\b", "will not"),
        (r"\bshan't\b", "shall not"),
        (r"\bain't\b", "is not"),
        (r"\b(do|does|did|is|are|was|were|has|have|had|could|would|should|must|need|might)n't\b", r"\1 not"),
        (r"\bi'm\b", "i am"),
        (r"\b(you|we|they)'re\b", r"\1 are"),
        (r"\b(i|you|we|they)'ve\b", r"\1 have"),
        (r"\b(i|you|he|she|it|we|they|that)'ll\b", r"\1 will"),
        (r"\b(i|you|he|she|it|we|they)'d\b", r"\1 would"),
        (r"\b(it|that|this|here|there|what|who|how|where|he|she|one)'s\b", r"\1 is"),
        (r"\blet's\b", "let us"),
    )
)
_EMPHASIS = re.compile(r"\*+|(?<!\w)_+|_+(?!\w)|^#+\s*")
_BULLET = re.compile(r"^\s*(?:[-*+\u2022\u25cf\u25aa\u2023]|\u2013)\s+(?=\S)")
_ORDERED = re.compile(r"^\s*(?:\*\*|#+\s*)?(?:step\s+)?(?:\d{1,2}|[a-h]|[ivx]{1,4})[.):]\s+(?=\S)", re.IGNORECASE)
_ORDERED_WORD = re.compile(r"^\s*(?:\*\*|#+\s*)?step\s+\w+\s*[.):-]\s*(?=\S)", re.IGNORECASE)
_LONGEST_QUOTE = 400
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[.!?][\"')\]])\s+|(?<=\.\.\.)\s*(?=\S)")
# Not "no": "No." is a whole refusal more often than a number.
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|mr|mrs|ms|dr|st|vs|jr|sr|u\.s|u\.k|approx|fig)|\b[a-z])\.$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: as folded (`text`), as matched (`form`), and how it was laid out."""

    text: str
    form: str
    layout: Layout

    @property
    def n_words(self) -> int:
        """How many words it has."""
        return len(self.form.split())


def fold(text: str) -> str:
    """Return `text` without control tokens and invisible characters, in NFKC, with plain quotes, dashes and spaces."""
    text = _UNSEEN_ASCII.sub("", _WORD_TICK.sub("'", text)) if text.isascii() else _plain(text)
    # Last, for an invisible character may have stood inside a token.
    if "<" in text or "[" in text:
        text = _CONTROL_TOKEN.sub(" ", text)
    return _SPACES.sub(" ", text).strip()


def _plain(text: str) -> str:
    text = _UNSEEN.sub("", text)
    text = _WORD_TICK.sub("'", text.translate(_APOSTROPHES).translate(_QUOTES).translate(_DASHES))
    return unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)


@functools.lru_cache(maxsize=4096)
def canonical(text: str) -> str:
    """Return the lower-case matching form of folded text: contractions written out, emphasis marks gone."""
    text = _EMPHASIS.sub("", text.lower())
    text = _BARE.sub(lambda m: _BARE_FORMS.get(m.group(), f"{m.group()[:-2]} not"), text)
    if "'" in text:
        for pattern, written in _CONTRACTIONS:
            text = pattern.sub(written, text)
    return _SPACES.sub(" ", text).strip()


def words(text: str) -> list[str]:
    """Return the lower-case words of `text`, digits included."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def sentences(folded: str) -> list[Sentence]:
    """Split folded text into sentences, keeping which stood in a list or in fenced code."""
    found: list[Sentence] = []
    in_code = False
    if folded.startswith("```") and folded.rstrip("`\n ").count("```") == 1:
        # The fence is the whole answer: some models put everything they say in one.
        folded = folded.strip("`\n ")
    for line in _lines(folded):
        if line.lstrip().startswith("```"):
            in_code = not in_code
            continue
        if in_code:
            if line.strip():
                found.append(Sentence(line.strip(), canonical(line), "code"))
            continue
        layout, rest = _layout(line)
        for part in _parts(rest):
            found.append(Sentence(part, canonical(part), layout))  # noqa: PERF401  (a comprehension hides the layout)
    return found


def _lines(folded: str) -> list[str]:
    """Join lines that were wrapped in mid-sentence, so that a refusal cut by a line break is still one sentence."""
    lines: list[str] = []
    in_code = False
    for line in folded.split("\n"):
        in_code ^= line.lstrip().startswith("```")
        previous = lines[-1].rstrip() if lines else ""
        open_ended = bool(previous) and previous[-1] not in ".!?:;`"
        if not in_code and open_ended and line[:1].isalpha() and line[:1].islower():
            lines[-1] = f"{previous} {line}"
        else:
            lines.append(line)
    return lines


def _layout(line: str) -> tuple[Layout, str]:
    for pattern in (_ORDERED_WORD, _ORDERED):
        if match := pattern.match(line):
            return "ordered", line[match.end() :]
    if match := _BULLET.match(line):
        return "bullet", line[match.end() :]
    return "prose", line


def _parts(line: str) -> list[str]:
    parts: list[str] = []
    rest = line
    for piece in _SENTENCE_END.split(line):
        if not piece.strip():
            continue
        # A quotation over several sentences stays one piece, or its second half would look like the speaker's own.
        quoted = parts and parts[-1].count('"') % 2 == 1 and '"' in rest and len(parts[-1]) < _LONGEST_QUOTE
        rest = rest[len(piece) :]
        if parts and (quoted or (_ABBREVIATION.search(parts[-1]) and not parts[-1].endswith(" I."))):
            parts[-1] = f"{parts[-1]} {piece}"
        else:
            parts.append(piece.strip())
    return parts
