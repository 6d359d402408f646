"""Verdicts read as probabilities of label tokens: one forward pass, nothing generated, so nothing can fail to parse.

Prompts that begin alike (one rubric, many transcripts) are laid out as trees under that beginning, which is computed once a row.

Shapes: T trees, N supervised tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.models.adapters import merged
from accord.models.chat import ChatFormat
from accord.models.head import token_logps
from accord.models.load import LoadedModel
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.sharing import batches, lay_out
from accord.models.tree import Tree, answer_states, head_weight

# Positions a batch. More than training's: the rubric is paid for once a row, and no state is kept.
JUDGE_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class LabelShares:
    """What a model says of a set of labels: the share of each, summing to 1, and the probability of the whole set."""

    shares: tuple[float, ...]
    mass: float


def forms_of(label: str) -> tuple[str, ...]:
    """Return the spellings in which a model may begin a label."""
    return tuple(dict.fromkeys((label, label.lower(), label.upper(), f" {label}", f" {label.lower()}")))


def label_shares(
    loaded: LoadedModel,
    chat: ChatFormat,
    prompts: Sequence[tuple[int, ...]],
    labels: Sequence[Sequence[str]],
    token_budget: int = JUDGE_TOKENS,
) -> list[LabelShares]:
    """Return, for each prompt, how likely each label is to come next; a label is given by its spellings.

    `P(label) = sum of P(spelling)`; the shares are those over the set, and `mass` is the sum that they were divided by.
    """
    ids = [[chat.opening(form) for form in forms] for forms in labels]
    flat = list(dict.fromkeys(spelling for forms in ids for spelling in forms))
    logps_TF = _logps(loaded, prompts, flat, token_budget)
    columns = [[flat.index(spelling) for spelling in dict.fromkeys(forms)] for forms in ids]
    shares: list[LabelShares] = []
    for row in np.exp(logps_TF):
        masses = [float(row[c].sum()) for c in columns]
        mass = sum(masses)
        shares.append(LabelShares(tuple(m / mass if mass > 0 else 1 / len(masses) for m in masses), min(1.0, mass)))
    return shares


def _logps(
    loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], spellings: Sequence[tuple[int, ...]], token_budget: int
) -> np.ndarray:
    """Return the log-probability of each spelling after each prompt. Shape [T, F], fp64."""
    model = loaded.model
    # Spellings of one token are all told by the state before them: one stands in for the others.
    single = all(len(s) == 1 for s in spellings)
    trees = [Tree(p, tuple(spellings[:1] if single else spellings)) for p in prompts]
    found = np.zeros((len(trees), len(spellings)))
    with torch.inference_mode(), ready(loaded):
        head = Projection(head_weight(model))
        for rows in batches(model, trees, range(len(trees)), token_budget):
            batch = lay_out(model, [trees[i] for i in rows])
            hidden_ND = answer_states(model, batch)
            if single:
                logps_NV = torch.log_softmax(head.forward(hidden_ND).float(), dim=-1)
                logps: Tensor = logps_NV[:, [s[0] for s in spellings]]
            else:
                logps = batch.sums(token_logps(hidden_ND, head, batch.targets_N).logps_N).view(len(rows), -1)
            found[rows] = logps.double().cpu().numpy()
    return found


@contextmanager
def ready(loaded: LoadedModel) -> Iterator[None]:
    """Fold adapters in and pack the weights once for many calls."""
    with merged(loaded.model), packed(loaded.model):
        yield
