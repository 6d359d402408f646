"""Findings that say the same thing, told by the meaning of what was asked: a hundred copies of one failure are one cluster.

Average-linkage clustering of sentence embeddings (Sokal and Michener 1958), within one clause and kind of failure. What is compared
is the goal in plain words, whatever attack dressed it. Left out: what the model answered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from accord.data.contamination import Embed
from accord.data.near_duplicates import normalise
from accord.data.records import as_text
from accord.types import Finding

# Of pairs of the starter's harmful prompts of one clause and different families 1 in 7,000 is as alike (docs/log.md).
SIMILAR = 0.7


@dataclass(frozen=True, slots=True)
class Cluster:
    """Findings of one clause and failure that say the same; `representative` is the one nearest to all others."""

    id: str
    clause: str
    failure: str
    representative: Finding
    members: tuple[Finding, ...]

    @property
    def size(self) -> int:
        """How many findings it holds, copies among them."""
        return len(self.members)


def clusters(findings: Iterable[Finding], embed: Embed, similar: float = SIMILAR) -> tuple[Cluster, ...]:
    """Return the clusters, the largest first; the same findings in any order give the same clusters and ids.

    `embed` maps n texts to unit vectors [n, D]. Clusters are joined while the mean cosine between them is at least `similar`.
    """
    by_kind: dict[tuple[str, str], dict[str, list[Finding]]] = {}
    for finding in sorted(findings, key=lambda f: f.id):
        asked = as_text(finding.prompt.messages)
        of_kind = by_kind.setdefault((finding.prompt.clause, finding.failure), {})
        of_kind.setdefault(normalise(asked) or asked, []).append(finding)
    found: list[Cluster] = []
    for (clause, failure), copies in by_kind.items():
        texts = sorted(copies)  # each text once, in an order that does not depend on which finding came first
        vectors_ND = embed([as_text(copies[text][0].prompt.messages) for text in texts])
        for rows in _grouped(vectors_ND, similar):
            centre = _medoid(vectors_ND[rows], [len(copies[texts[row]]) for row in rows])
            representative = copies[texts[rows[centre]]][0]
            members = [finding for row in rows for finding in copies[texts[row]]]
            id = _id(clause, failure, texts[rows[centre]])
            found.append(Cluster(id, clause, failure, representative, tuple(sorted(members, key=lambda f: f.id))))
    return tuple(sorted(found, key=lambda c: (-c.size, c.id)))


def cluster_ids(found: Iterable[Cluster]) -> Mapping[str, str]:
    """Return which cluster each finding is of, by the findings' ids."""
    return {finding.id: cluster.id for cluster in found for finding in cluster.members}


def _grouped(vectors_ND: np.ndarray, similar: float) -> list[list[int]]:
    """Return the rows of each group, in order of their first."""
    if len(vectors_ND) < 2:
        return [[row] for row in range(len(vectors_ND))]
    labels_N = fcluster(linkage(vectors_ND, method="average", metric="cosine"), 1 - similar, criterion="distance")
    groups: dict[int, list[int]] = {}
    for row, label in enumerate(labels_N):
        groups.setdefault(int(label), []).append(row)
    return list(groups.values())


def _medoid(vectors_ND: np.ndarray, weights: Sequence[int]) -> int:
    """Return the row with the greatest weighted sum of cosines to all; of equals the first."""
    closeness_N = vectors_ND @ (vectors_ND.T @ np.asarray(weights, dtype=float))
    return int(np.argmax(closeness_N >= closeness_N.max() - 1e-6))


def _id(clause: str, failure: str, text: str) -> str:
    return hashlib.sha256(f"{clause}\n{failure}\n{text}".encode("utf-8", "replace")).hexdigest()[:8]
