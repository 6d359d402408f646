"""The tree forward: a prompt and all answers that hang on it in one row, the prompt computed once.

A row holds the prompt's tokens, then each answer's tokens. An answer attends to the prompt and to itself, never to its
sibling; its positions restart after the prompt; the last prompt token predicts each answer's first token. Supervised
positions are known by where they stand in the tree.

With adapters in the upper layers only, the hidden states that enter the first adapted layer never change: `split` runs the
lower layers once (`lower`), and every later pass starts from what was kept (`upper`).

Shapes: B rows, L positions, N supervised tokens over all answers, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

MAX_PADDING = 0.05


@dataclass(frozen=True, slots=True)
class Tree:
    """One prompt and the answers that hang on it, as token ids. `index` is the row's place in its data set."""

    index: int
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """How many positions the row computes."""
        return len(self.prompt) + sum(len(a) for a in self.answers)


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Trees padded to one length. `predict_*` index the position whose state predicts each supervised token.

    `answer_N` numbers the answers of the batch in order, and `n_answers` counts them.
    """

    indices: tuple[int, ...]
    ids_BL: Tensor
    positions_BL: Tensor
    mask_B1LL: Tensor
    row_N: Tensor
    predict_N: Tensor
    targets_N: Tensor
    answer_N: Tensor
    n_answers: int
    n_useful: int

    def to(self, device: torch.device) -> TreeBatch:
        """Return the batch on a device."""
        tensors = {
            name: value.to(device)
            for name in self.__dataclass_fields__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **tensors)  # type: ignore[arg-type]


def collate(trees: Sequence[Tree]) -> TreeBatch:
    """Pad trees to the longest. Padding attends to itself only, so that no row of the mask is empty."""
    B, L = len(trees), max(t.length for t in trees)
    ids = torch.zeros(B, L, dtype=torch.long)
    positions = torch.zeros(B, L, dtype=torch.long)
    segment = torch.full((B, L), -1, dtype=torch.long)
    rows: list[int] = []
    predict: list[int] = []
    targets: list[int] = []
    answer_of: list[int] = []
    n_answers = 0
    for b, tree in enumerate(trees):
        n_prompt = len(tree.prompt)
        ids[b, :n_prompt] = torch.tensor(tree.prompt)
        positions[b, :n_prompt] = torch.arange(n_prompt)
        segment[b, :n_prompt] = 0
        start = n_prompt
        for k, answer in enumerate(tree.answers, 1):
            end = start + len(answer)
            ids[b, start:end] = torch.tensor(answer)
            positions[b, start:end] = torch.arange(n_prompt, n_prompt + len(answer))
            segment[b, start:end] = k
            rows += [b] * len(answer)
            predict += [n_prompt - 1, *range(start, end - 1)]
            targets += answer
            answer_of += [n_answers] * len(answer)
            n_answers += 1
            start = end
    key, query = segment[:, None, :], segment[:, :, None]
    causal = torch.ones(L, L, dtype=torch.bool).tril()
    mask = causal & ((key == query) | ((key == 0) & (query > 0)))
    mask |= torch.eye(L, dtype=torch.bool)
    return TreeBatch(
        indices=tuple(t.index for t in trees),
        ids_BL=ids,
        positions_BL=positions,
        mask_B1LL=mask[:, None],
        row_N=torch.tensor(rows, dtype=torch.long),
        predict_N=torch.tensor(predict, dtype=torch.long),
        targets_N=torch.tensor(targets, dtype=torch.long),
        answer_N=torch.tensor(answer_of, dtype=torch.long),
        n_answers=n_answers,
        n_useful=sum(t.length for t in trees),
    )


def micro_batches(trees: Sequence[Tree], rows: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows into batches of at most `token_budget` padded positions, sorted by length.

    A batch also ends where one more row would make padding more than `MAX_PADDING` of it, unless it is still short. A row longer
    than the budget is a batch of its own. Every row is in exactly one batch.
    """
    batches: list[list[int]] = []
    current: list[int] = []
    useful = 0
    for row in sorted(rows, key=lambda i: (trees[i].length, i)):
        length = trees[row].length
        computed = length * (len(current) + 1)
        padded = 1 - (useful + length) / computed > MAX_PADDING and useful >= token_budget / 4
        if current and (computed > token_budget or padded):
            batches.append(current)
            current, useful = [], 0
        current.append(row)
        useful += length
    return [*batches, current] if current else batches


def decoder_of(model: nn.Module) -> PreTrainedModel:
    """Return the stack of layers under the head, adapters included, of a plain or a PEFT-wrapped model."""
    return _inner(model).get_decoder()  # type: ignore[no-any-return]


def head_weight(model: nn.Module) -> Tensor:
    """Return the weight [V, D] of the language-model head."""
    return _inner(model).get_output_embeddings().weight  # type: ignore[no-any-return]


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def answer_states(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Return the last hidden state at each position that predicts a supervised token. Shape [N, D]."""
    hidden = _run(decoder_of(model), batch, input_ids=batch.ids_BL)
    return hidden[batch.row_N, batch.predict_N]


def lower_states(model: nn.Module, batch: TreeBatch, first_layer: int) -> Tensor:
    """Return the hidden states that enter layer `first_layer`. Shape [B, L, D]; no gradient."""
    with torch.no_grad(), _layers(decoder_of(model), slice(0, first_layer), norm=False) as lower:
        return _run(lower, batch, input_ids=batch.ids_BL)


def upper_answer_states(model: nn.Module, batch: TreeBatch, entering_BLD: Tensor, first_layer: int) -> Tensor:
    """As `answer_states`, from what `lower_states` returned: only layers from `first_layer` on are run."""
    with _layers(decoder_of(model), slice(first_layer, None), norm=True) as upper:
        hidden = _run(upper, batch, inputs_embeds=entering_BLD)
    return hidden[batch.row_N, batch.predict_N]


def _run(decoder: Any, batch: TreeBatch, **inputs: Tensor) -> Tensor:
    output = decoder(attention_mask=batch.mask_B1LL, position_ids=batch.positions_BL, use_cache=False, **inputs)
    return output.last_hidden_state  # type: ignore[no-any-return]


@contextmanager
def _layers(decoder: PreTrainedModel, which: slice, norm: bool) -> Iterator[Any]:
    """A shallow copy of the decoder that runs only some of its layers and shares every weight."""
    part = copy.copy(decoder)
    part._modules = dict(decoder._modules)
    part._modules["layers"] = nn.ModuleList(list(decoder.layers)[which])  # type: ignore[arg-type, operator]
    if kinds := getattr(decoder.config, "layer_types", None):
        # Where layers differ in kind (Gemma 3's rotary bases), the decoder looks a layer's kind up by its place.
        part.config = copy.copy(decoder.config)
        part.config.layer_types = kinds[which]
    if not norm:
        part._modules["norm"] = nn.Identity()
    yield part
