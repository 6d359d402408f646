"""Whether a model can compute a shared prompt, or its frozen layers, once, and what is done where it cannot.

A tree forward needs attention that looks at nothing but positions and the mask. Attention within a window or a chunk does so while
a branch, prompt and answer, is no longer than that; a state that is carried from token to token (Mamba, linear attention) never
does. Where the configuration does not tell, a trial does: a run's longest trees are computed both ways. Frozen layers are run once
where a decoder does nothing to the states but run its layers and norm them; that too a trial tells.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from accord.models.tree import (
    Tree,
    TreeBatch,
    answer_states,
    collate,
    collate_apart,
    common_prefix,
    decoder_of,
    last_states,
    layout,
    lower_states,
    micro_batches,
    micro_batches_apart,
    upper_states,
)

# Largest root mean square of the difference of last hidden states, relative to their own. Another order of sums makes 1e-6 of it in
# fp32 and 1e-2 in bf16; a token too many that is attended to, 0.1 and more.
MOST_DIFFERENCE = {torch.float32: 1e-3}
MOST_DIFFERENCE_BELOW_FP32 = 6e-2
# Of a prompt, and of an answer, where it does not matter which.
TRIED_TOKENS = 8
ATTENDS_FAR = {"full_attention"}
ATTENDS_NEAR = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a trial found (an empty text: nothing), and the longest prompt with its answer that it compared."""

    reason: str
    longest: int


_tried: WeakKeyDictionary[nn.Module, _Trial] = WeakKeyDictionary()
# By the first layer of the upper part.
_tried_in_parts: WeakKeyDictionary[nn.Module, dict[int, str]] = WeakKeyDictionary()


def why_apart(model: nn.Module, trees: Sequence[Tree]) -> str:
    """Return why these trees must be computed answer by answer, or an empty text.

    The longest of the first trees that a model meets are tried, and again where longer ones come: a reach shows only beyond it.
    """
    decoder = decoder_of(model)
    longest = max(t.longest for t in trees)
    if reason := why_by_configuration(decoder, longest):
        return reason
    trial = _tried.get(decoder, _Trial("", 0))
    if not trial.reason and longest > trial.longest and (len(trees) > 1 or len(trees[0].answers) > 1):
        by_length = sorted(trees, key=lambda t: (-t.longest, -len(t.answers)))
        # A reach shows in the longest tree. Whether it looks at a neighbour shows beside any other: the shortest costs least.
        compared = [by_length[0], by_length[-1]] if len(by_length) > 1 else by_length
        trial = _tried[decoder] = _Trial(_by_trial(model, compared), longest)
    return trial.reason


def why_undivided(model: nn.Module, trees: Sequence[Tree], first_layer: int) -> str:
    """Return why states that enter layer `first_layer` cannot be kept for later passes, or an empty text.

    A model and layer are tried once, with the beginning of the shortest tree. Some decoders multiply the embeddings that they are
    given (Granite), and would multiply the kept states again; some call their last norm by another name (GPT-NeoX), and would norm
    the states before they are kept.
    """
    decoder = decoder_of(model)
    tried = _tried_in_parts.setdefault(decoder, {})
    if first_layer not in tried:
        tree = min(trees, key=lambda t: t.length)
        short = Tree(tree.prompt[:TRIED_TOKENS], (tree.answers[0][:TRIED_TOKENS],))
        batch = collate([short]).to(next(model.parameters()).device)
        with torch.no_grad(), _evaluating(model):
            entering = lower_states(model, batch, first_layer)
            difference = _difference(upper_states(model, batch, entering, first_layer), last_states(model, batch))
        tried[first_layer] = ""
        if difference > _most_difference(decoder):
            tried[first_layer] = (
                f"{decoder.config.model_type} does more than run its layers, and in two parts differs by {difference:.1%}"
            )
    return tried[first_layer]


def lay_out(model: nn.Module, trees: Sequence[Tree]) -> TreeBatch:
    """Return trees as a batch on the model's device: a shared prompt once where the model can, else with each of its answers."""
    lay = collate_apart if why_apart(model, trees) else collate
    return lay(trees).to(next(model.parameters()).device)


def batches(model: nn.Module, trees: Sequence[Tree], rows: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows into batches of at most `token_budget` computed positions, each row in exactly one."""
    split = micro_batches_apart if rows and why_apart(model, [trees[i] for i in rows]) else micro_batches
    return split(trees, rows, token_budget)


def positions(model: nn.Module, trees: Sequence[Tree]) -> tuple[int, int]:
    """Return how many positions a batch of these trees computes, and how many of them are no padding."""
    if why_apart(model, trees):
        sequences = [len(t.prompt) + len(answer) for t in trees for answer in t.answers]
        return len(sequences) * max(sequences), sum(sequences)
    n_prefix = common_prefix([t.prompt for t in trees])
    rows, width = layout([t.length for t in trees], n_prefix)
    return len(rows) * width, len(rows) * n_prefix + sum(t.length - n_prefix for t in trees)


def why_by_configuration(decoder: Any, longest: int) -> str:
    """Return why a model cannot share a prompt, as far as its configuration tells; an empty text where it does not."""
    config = decoder.config
    if "position_ids" not in inspect.signature(decoder.forward).parameters:
        return f"{config.model_type} takes no positions, so that they cannot restart where an answer begins"
    kinds = set(getattr(config, "layer_types", None) or ())
    if carried := sorted(kinds - ATTENDS_FAR - set(ATTENDS_NEAR)):
        return f"{config.model_type} has layers of kind {', '.join(carried)}"
    if not kinds and getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        kinds = {"sliding_attention"}
    for kind in sorted(kinds & set(ATTENDS_NEAR)):
        reach = getattr(config, ATTENDS_NEAR[kind], None)
        if reach and longest > reach:
            return f"{config.model_type} attends within {reach} tokens, and the longest prompt with its answer has {longest}"
    return ""


@torch.no_grad()
def _by_trial(model: nn.Module, trees: Sequence[Tree]) -> str:
    """Compute trees both ways; return by how much they differ where that is more than another order of sums explains."""
    device = next(model.parameters()).device
    with _evaluating(model):
        together, apart = (answer_states(model, lay(trees).to(device)) for lay in (collate, collate_apart))
    difference = _difference(together, apart)
    if difference <= _most_difference(decoder_of(model)):
        return ""
    return f"computed together the first batch differs by {difference:.1%}"


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found.float() - expected.float()).square().mean().sqrt() / expected.float().square().mean().sqrt())


def _most_difference(decoder: Any) -> float:
    return MOST_DIFFERENCE.get(decoder.dtype, MOST_DIFFERENCE_BELOW_FP32)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
