"""Whether what a model is evaluated with stands in what it is trained on: by near-copies, by shared runs of words, by meaning.

Shared runs are of 13 words, in any text of a training row (Brown et al. 2020, arXiv 2005.14165, appendix C); a shorter evaluation
text counts where the whole of it stands in one training text and has at least 6 words. Meaning is the cosine of two sentence
embeddings; the embedder is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from accord.data.examples import Example
from accord.data.near_duplicates import nearest, normalise
from accord.data.records import as_text
from accord.types import Prompt

NGRAM, FEWEST_WORDS = 13, 6
SIMILAR_TEXT = 0.8
# Two prompts of one request in other words lie above it, two requests on one subject below (docs/log.md).
SIMILAR_MEANING = 0.9
_ROWS_AT_ONCE = 1024

Embed = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training row that repeats an evaluation row, each by its line, and how."""

    line: int
    evaluated: int
    how: str


def overlaps(train: Sequence[Example], evaluation: Sequence[Example], embed: Embed | None = None) -> list[Overlap]:
    """Return by training row and evaluation row the first way, of the three, in which one repeats the other.

    `embed` maps n texts to unit vectors [n, D]; without it meaning is not compared.
    """
    found: dict[tuple[int, int], Overlap] = {}
    ways = [_alike(train, evaluation), _shared_runs(train, evaluation)]
    if embed is not None:
        ways.append(_same_meaning(train, evaluation, embed))
    for overlap in chain.from_iterable(ways):
        found.setdefault((overlap.line, overlap.evaluated), overlap)
    return [found[key] for key in sorted(found)]


def _alike(train: Sequence[Example], evaluation: Sequence[Example]) -> list[Overlap]:
    pairs = nearest(_prompts(train), _prompts(evaluation), SIMILAR_TEXT)
    return [Overlap(int(p.a), int(p.b), f"prompts {p.similarity:.0%} the same") for p in pairs]


def _prompts(examples: Sequence[Example]) -> list[Prompt]:
    return [Prompt(str(e.line), e.messages, "ordinary", "", e.id, "train") for e in examples]


def _shared_runs(train: Sequence[Example], evaluation: Sequence[Example]) -> list[Overlap]:
    by_run: dict[tuple[str, ...], set[int]] = {}
    short: list[tuple[int, str]] = []
    for n, e in enumerate(evaluation):
        words = normalise(as_text(e.messages)).split()
        if len(words) < NGRAM:
            if len(words) >= FEWEST_WORDS:
                short.append((n, f" {' '.join(words)} "))
            continue
        for i in range(len(words) - NGRAM + 1):
            by_run.setdefault(tuple(words[i : i + NGRAM]), set()).add(n)
    found: list[Overlap] = []
    for example in train:
        hit: dict[int, str] = {}
        for text in (as_text(example.messages), *example.answers):
            words = normalise(text).split()
            for i in range(len(words) - NGRAM + 1):
                for n in by_run.get(tuple(words[i : i + NGRAM]), ()):
                    hit.setdefault(n, f"a run of {NGRAM} words: '{' '.join(words[i : i + NGRAM])}'")
            hay = f" {' '.join(words)} "
            for n, needle in short:
                if needle in hay:
                    hit.setdefault(n, f"holds the whole prompt '{needle.strip()}'")
        found += [Overlap(example.line, evaluation[n].line, how) for n, how in hit.items()]
    return found


def _same_meaning(train: Sequence[Example], evaluation: Sequence[Example], embed: Embed) -> list[Overlap]:
    if not train or not evaluation:
        return []
    train_TD = embed([as_text(e.messages) for e in train])
    evaluated_ED = embed([as_text(e.messages) for e in evaluation])
    found: list[Overlap] = []
    for start in range(0, len(train), _ROWS_AT_ONCE):
        cosine_TE = train_TD[start : start + _ROWS_AT_ONCE] @ evaluated_ED.T
        for t, e in zip(*np.nonzero(cosine_TE >= SIMILAR_MEANING), strict=True):
            how = f"meanings {cosine_TE[t, e]:.2f} alike (cosine)"
            found.append(Overlap(train[start + t].line, evaluation[e].line, how))
    return found
