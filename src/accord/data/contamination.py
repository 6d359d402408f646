"""Whether what a model is evaluated with stands in what it is trained on: by near-copies, by shared runs of words, by meaning.

Shared runs are of 13 words, in any text of a training row (Brown et al. 2020, arXiv 2005.14165, appendix C); a shorter evaluation
text counts where the whole of it stands in one training text and has at least 6 words. Meaning is the cosine of two sentence
embeddings; the embedder is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from accord.data.examples import Example
from accord.data.near_duplicates import nearest, normalise
from accord.data.records import as_text
from accord.types import Prompt

NGRAM, FEWEST_WORDS, MOST_HOLDERS = 13, 6, 10
_WORDS_SHOWN = 5
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
    """Return, by training row, the evaluation rows it repeats: at most one by each way, and each once.

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
    """The first shared run of each training row. Runs of more than `MOST_HOLDERS` evaluation rows are a frame, not a copy."""
    holders: dict[tuple[str, ...], set[int]] = {}
    for n, e in enumerate(evaluation):
        words = normalise(as_text(e.messages)).split()
        size = min(NGRAM, len(words))
        if size >= FEWEST_WORDS:
            for i in range(len(words) - size + 1):
                holders.setdefault(tuple(words[i : i + size]), set()).add(n)
    first = {run: min(rows) for run, rows in holders.items() if len(rows) <= MOST_HOLDERS}
    sizes = sorted({len(run) for run in first}, reverse=True)
    found: list[Overlap] = []
    for example in train:
        run = next(_runs_in((as_text(example.messages), *example.answers), sizes, first), None)
        if run is not None:
            what = f"a run of {NGRAM} words" if len(run) == NGRAM else "the whole prompt"
            shown = " ".join(run[:_WORDS_SHOWN])
            found.append(Overlap(example.line, evaluation[first[run]].line, f"{what}: '{shown} …'"))
    return found


def _runs_in(
    texts: Sequence[str], sizes: Sequence[int], known: Mapping[tuple[str, ...], int]
) -> Iterator[tuple[str, ...]]:
    for text in texts:
        words = normalise(text).split()
        for size in sizes:
            for i in range(len(words) - size + 1):
                if (run := tuple(words[i : i + size])) in known:
                    yield run


def _same_meaning(train: Sequence[Example], evaluation: Sequence[Example], embed: Embed) -> list[Overlap]:
    """The nearest evaluation row of each training row; a prompt without words has no meaning to compare."""
    train, evaluation = ([e for e in rows if normalise(as_text(e.messages))] for rows in (train, evaluation))
    if not train or not evaluation:
        return []
    train_TD = embed([as_text(e.messages) for e in train])
    evaluated_ED = embed([as_text(e.messages) for e in evaluation])
    found: list[Overlap] = []
    for start in range(0, len(train), _ROWS_AT_ONCE):
        cosine_TE = train_TD[start : start + _ROWS_AT_ONCE] @ evaluated_ED.T
        for t, e in enumerate(cosine_TE.argmax(axis=1)):
            if (cosine := float(cosine_TE[t, e])) >= SIMILAR_MEANING:
                how = f"meanings {cosine:.2f} alike (cosine)"
                found.append(Overlap(train[start + t].line, evaluation[e].line, how))
    return found
