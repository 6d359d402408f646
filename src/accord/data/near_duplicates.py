"""Prompts that say nearly the same: Jaccard similarity of their character shingles, exact, by sparse products.

`J(a, b) = |A ∩ B| / |A ∪ B|` over the sets of 5-character runs (Broder 1997, "On the resemblance and containment of
documents"). Left out: meaning. A paraphrase has another family only if whoever wrote it says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from accord.data.records import as_text
from accord.errors import DataError
from accord.types import Prompt

SHINGLE = 5
_ROWS_AT_ONCE = 512
_NOT_A_WORD = re.compile(r"\W+")


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """Two prompts by id, and how alike they are, from `threshold` to 1."""

    a: str
    b: str
    similarity: float


def normalise(text: str) -> str:
    """Return a text in lower case with every run of other than letters and digits as one space."""
    return _NOT_A_WORD.sub(" ", text.casefold()).strip()


def nearest(prompts_a: Sequence[Prompt], prompts_b: Sequence[Prompt], threshold: float = 0.8) -> list[NearDuplicate]:
    """Return for each prompt of `a` its most similar one of `b`, where that reaches `threshold`; most alike first.

    What the user says in all turns is compared; a prompt without words is like no other.

    Raises:
        DataError: if `threshold` is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise DataError(f"threshold {threshold} is not in (0, 1]")
    if not prompts_a or not prompts_b:
        return []
    vocabulary: dict[str, int] = {}
    sets_a = [_shingles(as_text(prompt.messages), vocabulary) for prompt in prompts_a]
    sets_b = [_shingles(as_text(prompt.messages), vocabulary) for prompt in prompts_b]
    matrix_a, matrix_b = _matrix(sets_a, len(vocabulary)), _matrix(sets_b, len(vocabulary))
    sizes_a, sizes_b = (np.array([len(s) for s in sets], dtype=float) for sets in (sets_a, sets_b))
    found: list[NearDuplicate] = []
    for start in range(0, len(sets_a), _ROWS_AT_ONCE):
        shared_AB = (matrix_a[start : start + _ROWS_AT_ONCE] @ matrix_b.T).toarray()
        union_AB = sizes_a[start : start + _ROWS_AT_ONCE, None] + sizes_b[None, :] - shared_AB
        similarity_AB = shared_AB / np.maximum(union_AB, 1)  # two texts without words share nothing: 0 / 1
        best_A = similarity_AB.argmax(axis=1)
        for row, column in enumerate(best_A):
            similarity = float(similarity_AB[row, column])
            if similarity >= threshold:
                found.append(NearDuplicate(prompts_a[start + row].id, prompts_b[column].id, similarity))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.a, pair.b))


def _shingles(text: str, vocabulary: dict[str, int]) -> set[int]:
    plain = normalise(text)
    if not plain:
        return set()
    runs = {plain[i : i + SHINGLE] for i in range(max(1, len(plain) - SHINGLE + 1))}
    return {vocabulary.setdefault(run, len(vocabulary)) for run in runs}


def _matrix(sets: Sequence[set[int]], width: int) -> sparse.csr_array:
    indices = np.fromiter((index for s in sets for index in s), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum([len(s) for s in sets])]).astype(np.int64)
    return sparse.csr_array((np.ones(len(indices)), indices, starts), shape=(len(sets), max(width, 1)))
