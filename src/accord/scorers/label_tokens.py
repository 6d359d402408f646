"""Verdicts read as probabilities of label tokens: one forward pass, nothing generated, so nothing can fail to parse.

Where prompts begin alike (one rubric, many transcripts) that beginning is computed once, and its keys and values are kept for all
of them. Labels of several tokens, and models that cannot share, go by `models.sharing`, which tells when they can.

Shapes: T trees, N supervised tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from accord.models.adapters import merged
from accord.models.chat import ChatFormat
from accord.models.head import token_logps
from accord.models.load import LoadedModel
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.sharing import batches, lay_out, why_apart
from accord.models.tree import Tree, TreeBatch, answer_states, common_prefix, decoder_of, head_weight

# Positions a batch beside the shared beginning. More than training's: nothing is kept for a backward pass.
JUDGE_TOKENS = 4096
# The least share of a batch's longest row that its shortest may have.
LEAST_FILLED = 0.9


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
        if single and len(trees) > 1 and not why_apart(model, trees):
            states = _states_after(loaded, prompts, token_budget)
        else:
            states = _states_of_trees(loaded, trees, token_budget)
        for rows, hidden_ND, batch in states:
            if single:
                logps_NV = torch.log_softmax(head.forward(hidden_ND).float(), dim=-1)
                logps: Tensor = logps_NV[:, [s[0] for s in spellings]]
            else:
                assert batch is not None
                logps = batch.sums(token_logps(hidden_ND, head, batch.targets_N).logps_N).view(len(rows), -1)
            found[rows] = logps.double().cpu().numpy()
    return found


_States = Iterator[tuple[list[int], Tensor, TreeBatch | None]]


def _states_of_trees(loaded: LoadedModel, trees: Sequence[Tree], token_budget: int) -> _States:
    """Yield rows with the states that predict their supervised tokens; a common beginning is computed once a row of trees."""
    for rows in batches(loaded.model, trees, range(len(trees)), token_budget):
        batch = lay_out(loaded.model, [trees[i] for i in rows])
        yield rows, answer_states(loaded.model, batch), batch


def _states_after(loaded: LoadedModel, prompts: Sequence[tuple[int, ...]], token_budget: int) -> _States:
    """Yield rows with the state behind each prompt; the common beginning is computed once for all, and its keys are kept.

    Rows of like length go together, padded on the right, where nothing real attends to the padding.
    """
    decoder, device = decoder_of(loaded.model), loaded.device
    n = min(common_prefix(prompts), min(map(len, prompts)) - 1)
    kept = DynamicCache()
    if n:
        first = torch.tensor([prompts[0][:n]], device=device)
        decoder(input_ids=first, cache=kept, use_cache=True)
    for rows in _alike([len(p) - n for p in prompts], token_budget):
        own = [prompts[i][n:] for i in rows]
        width = max(map(len, own))
        ids_BL = torch.tensor([[*o, *[0] * (width - len(o))] for o in own], device=device)
        real_BL = torch.tensor([[1] * (n + len(o)) + [0] * (width - len(o)) for o in own], device=device)
        places_BL = torch.arange(n, n + width, device=device).expand(len(rows), -1)
        cache = DynamicCache()
        for layer, past in enumerate(kept.layers):
            shape = (len(rows), -1, -1, -1)
            cache.update(past.keys.expand(shape), past.values.expand(shape), layer)
        states_BLD = decoder(
            input_ids=ids_BL, attention_mask=real_BL, position_ids=places_BL, cache=cache, use_cache=True
        ).last_hidden_state
        ends_B = torch.tensor([len(o) - 1 for o in own], device=device)
        yield rows, states_BLD[torch.arange(len(rows), device=device), ends_B], None


def _alike(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows, longest first, into batches of at most the budget in which padding is at most a tenth of the longest."""
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        longest = lengths[found[-1][0]] if found else 0
        full = not found or (len(found[-1]) + 1) * longest > token_budget
        # A small batch may pad more: a pass has its own price.
        short = bool(found) and len(found[-1]) * longest < token_budget / 4
        if full or (lengths[i] < LEAST_FILLED * longest and not short):
            found.append([])
        found[-1].append(i)
    return found


@contextmanager
def ready(loaded: LoadedModel) -> Iterator[None]:
    """Fold adapters in and pack the weights once for many calls."""
    with merged(loaded.model), packed(loaded.model):
        yield
