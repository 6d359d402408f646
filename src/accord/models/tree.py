"""The tree forward: what several answers, or several prompts, have in common is computed once.

A row holds the prefix that all trees of a batch share (a system prompt), then tree after tree: the rest of its prompt, then each
answer. A tree attends to the prefix and to itself, never to its neighbour; an answer attends to its prompt and to itself, never
to its sibling. Positions restart where a branch leaves; the last prompt token predicts each answer's first token. Supervised
positions are known by where they stand in the tree.

With adapters in the upper layers only, the hidden states that enter the first adapted layer never change: `split` runs the
lower layers once (`lower`), and every later pass starts from what was kept (`upper`).

Shapes: B rows, L positions, A answers, N supervised tokens over all answers, T an answer's tokens, D hidden size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from accord.errors import ModelError
from accord.models.attention import Segment, by_parts
from accord.models.logits import inner_of, logit_scale
from accord.models.sharded import run

MAX_PADDING = 0.05
# Positions a batch where nothing is kept for a backward pass.
FORWARD_TOKENS = 2048
# A row holds so many positions beside the prefix, or so many times the prefix's: more share one prefix, but where attention is
# not by segment its cost grows with the square of the row.
ROW_TOKENS, ROW_PREFIXES = 1024, 4
# Answers attend each on its own where that spares so many products of a query and a key; a segment more has its price too.
SPLIT_AREA = 4096


@dataclass(frozen=True, slots=True)
class Tree:
    """One prompt and the answers that hang on it, as token ids."""

    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """How many positions the row computes."""
        return len(self.prompt) + sum(len(a) for a in self.answers)

    @property
    def longest(self) -> int:
        """How many tokens the prompt has with its longest answer."""
        return len(self.prompt) + max(map(len, self.answers), default=0)


@dataclass(frozen=True, slots=True)
class TreeBatch:
    """Trees laid out in rows of one length. `predict_*` index the position whose state predicts each supervised token.

    `answer_N` numbers the answers of the batch in order, and `n_answers` counts them; `tree_N` and `tree_A` number the trees.
    `end_A` is the position of each answer's last token, `row_A` its row. `places` holds, by tree, its row and the columns of its
    own tokens in order, the shared prefix included. `segments` say which columns attend to which; they hold every column but
    padding once, as `real_BL` does. Where there is no mask, each row is one plain sequence (`collate_apart`).
    """

    ids_BL: Tensor
    positions_BL: Tensor
    real_BL: Tensor
    mask_B1LL: Tensor | None
    row_N: Tensor
    predict_N: Tensor
    targets_N: Tensor
    answer_N: Tensor
    tree_N: Tensor
    row_A: Tensor
    end_A: Tensor
    tree_A: Tensor
    places: tuple[tuple[int, Tensor], ...]
    segments: tuple[Segment, ...]
    n_answers: int

    def to(self, device: torch.device) -> TreeBatch:
        """Return the batch on a device."""
        tensors = {
            name: value.to(device)
            for name in self.__dataclass_fields__
            if isinstance(value := getattr(self, name), Tensor)
        }
        return replace(self, **tensors)  # type: ignore[arg-type]

    def some(self, trees: Sequence[int]) -> TreeBatch:
        """Return the same rows with the answers of some trees only, numbered anew; `trees` ascends."""
        wanted_T = torch.zeros(len(self.places), dtype=torch.bool, device=self.tree_N.device)
        wanted_T[list(trees)] = True
        in_N, in_A = wanted_T[self.tree_N], wanted_T[self.tree_A]
        kept = {name: getattr(self, name)[in_N] for name in ("row_N", "predict_N", "targets_N", "tree_N")}
        kept |= {name: getattr(self, name)[in_A] for name in ("row_A", "end_A", "tree_A")}
        answer_N = (in_A.cumsum(0) - 1)[self.answer_N[in_N]]
        return replace(self, **kept, answer_N=answer_N, n_answers=int(in_A.sum()))

    def predicting(self, hidden_BLD: Tensor) -> Tensor:
        """Return the state that predicts each supervised token. Shape [N, D]."""
        return hidden_BLD[self.row_N, self.predict_N]

    def ends(self, hidden_BLD: Tensor) -> Tensor:
        """Return the state of each answer's last token. Shape [A, D]."""
        return hidden_BLD[self.row_A, self.end_A]

    def sums(self, values_N: Tensor) -> Tensor:
        """Add up values of supervised tokens by answer. Shape [A]."""
        return values_N.new_zeros(self.n_answers).index_add(0, self.answer_N, values_N)

    def lengths(self) -> Tensor:
        """Return each answer's number of tokens. Shape [A]."""
        return torch.bincount(self.answer_N, minlength=self.n_answers)

    def by_answer(self, values_N: Tensor) -> tuple[Tensor, Tensor]:
        """Lay values of supervised tokens out by answer: `values_AT` left-aligned, and which of them exist."""
        counts_A = self.lengths()
        starts_A = counts_A.cumsum(0) - counts_A
        column_N = torch.arange(len(self.answer_N), device=values_N.device) - starts_A[self.answer_N]
        width = int(counts_A.max())
        mask_AT = torch.arange(width, device=values_N.device)[None] < counts_A[:, None]
        values_AT = values_N.new_zeros(self.n_answers, width).index_put((self.answer_N, column_N), values_N)
        return values_AT, mask_AT

    def is_first(self) -> Tensor:
        """Which of the supervised tokens begin an answer. Shape [N]."""
        first_N = torch.ones_like(self.answer_N, dtype=torch.bool)
        first_N[1:] = self.answer_N[1:] != self.answer_N[:-1]
        return first_N


def collate(trees: Sequence[Tree]) -> TreeBatch:
    """Lay trees out in rows. Padding attends to itself only, so that no row of the mask is empty."""
    n_prefix = common_prefix([t.prompt for t in trees])
    rows, L = layout([t.length for t in trees], n_prefix)
    B = len(rows)
    ids = torch.zeros(B, L, dtype=torch.long)
    positions = torch.zeros(B, L, dtype=torch.long)
    # Whose a column is: 0 the prefix, k the row's k-th tree; within a tree 0 its prompt, k its k-th answer. Padding is nobody's.
    tree_of = torch.full((B, L), -1, dtype=torch.long)
    branch_of = torch.zeros(B, L, dtype=torch.long)
    places: dict[int, tuple[int, Tensor]] = {}
    for b, members in enumerate(rows):
        tree_of[b, :n_prefix] = 0
        start = n_prefix
        for k, i in enumerate(members, 1):
            own = trees[i].length - n_prefix
            columns = torch.cat([torch.arange(n_prefix), torch.arange(start, start + own)])
            tokens, position, branch = _flat(trees[i])
            ids[b, columns], positions[b, columns], branch_of[b, columns] = tokens, position, branch
            tree_of[b, start : start + own] = k
            places[i] = (b, columns)
            start += own
    branches = [(i, *branch) for i, tree in enumerate(trees) for branch in _branches(tree)]
    predict = [
        places[i][1][[len(trees[i].prompt) - 1, *range(first, end - 1)][: end - first]] for i, first, end in branches
    ]
    sizes = torch.tensor([end - first for _, first, end in branches])
    tree_A = torch.tensor([i for i, _, _ in branches])
    tree_N = tree_A.repeat_interleave(sizes)
    row_T = torch.tensor([places[i][0] for i in range(len(trees))])
    return TreeBatch(
        ids_BL=ids,
        positions_BL=positions,
        real_BL=tree_of >= 0,
        mask_B1LL=_mask(tree_of, branch_of)[:, None],
        row_N=row_T[tree_N],
        predict_N=torch.cat(predict),
        targets_N=torch.tensor([x for t in trees for answer in t.answers for x in answer], dtype=torch.long),
        answer_N=torch.arange(len(branches)).repeat_interleave(sizes),
        tree_N=tree_N,
        row_A=row_T[tree_A],
        end_A=torch.stack([places[i][1][end - 1] for i, _, end in branches]),
        tree_A=tree_A,
        places=tuple(places[i] for i in range(len(trees))),
        segments=tuple(_segments(trees, places, B, n_prefix)),
        n_answers=len(branches),
    )


def collate_apart(trees: Sequence[Tree]) -> TreeBatch:
    """Lay each answer out with its own copy of the prompt, a row each, as any causal model reads it."""
    sequences = [(i, (*t.prompt, *answer), len(t.prompt)) for i, t in enumerate(trees) for answer in t.answers]
    lengths_A = torch.tensor([len(tokens) for _, tokens, _ in sequences])
    B, L = len(sequences), int(lengths_A.max())
    columns_L = torch.arange(L)
    ids = torch.zeros(B, L, dtype=torch.long)
    for b, (_, tokens, _) in enumerate(sequences):
        ids[b, : len(tokens)] = torch.tensor(tokens)
    sizes_A = torch.tensor([len(tokens) - n_prompt for _, tokens, n_prompt in sequences])
    tree_A = torch.tensor([i for i, _, _ in sequences])
    answer_N = torch.arange(B).repeat_interleave(sizes_A)
    first_of = {i: b for b, (i, _, _) in reversed(list(enumerate(sequences)))}
    return TreeBatch(
        ids_BL=ids,
        positions_BL=columns_L.expand(B, L).contiguous(),
        real_BL=columns_L[None] < lengths_A[:, None],
        mask_B1LL=None,
        row_N=answer_N,
        predict_N=torch.cat([torch.arange(n_prompt, len(tokens)) - 1 for _, tokens, n_prompt in sequences]),
        targets_N=torch.tensor([x for _, tokens, n_prompt in sequences for x in tokens[n_prompt:]], dtype=torch.long),
        answer_N=answer_N,
        tree_N=tree_A[answer_N],
        row_A=torch.arange(B),
        end_A=lengths_A - 1,
        tree_A=tree_A,
        places=tuple((first_of[i], columns_L[: lengths_A[first_of[i]]]) for i in range(len(trees))),
        segments=(),
        n_answers=B,
    )


def _branches(tree: Tree) -> list[tuple[int, int]]:
    """Where each answer begins and ends among the tree's own tokens."""
    edges = accumulate((len(a) for a in tree.answers), initial=len(tree.prompt))
    return list(pairwise(edges))


def _segments(
    trees: Sequence[Tree], places: Mapping[int, tuple[int, Tensor]], n_rows: int, n_prefix: int
) -> Iterator[Segment]:
    prefix = torch.arange(n_prefix)
    if n_prefix:
        yield from (Segment(b, 0, n_prefix, prefix) for b in range(n_rows))
    for i, tree in enumerate(trees):
        b, columns = places[i]
        sizes = [len(a) for a in tree.answers]
        apart = sum(sizes) ** 2 - sum(n**2 for n in sizes) >= SPLIT_AREA
        n_prompt = len(tree.prompt)
        for first, end in [(n_prefix, n_prompt), *_branches(tree)] if apart else [(n_prefix, tree.length)]:
            if first < end:
                seen = torch.cat([columns[: min(first, n_prompt)], columns[first:end]])
                yield Segment(b, int(columns[first]), int(columns[end - 1]) + 1, seen)


def _flat(tree: Tree) -> tuple[Tensor, Tensor, Tensor]:
    """A tree's tokens in order, their positions, and whose they are: 0 the prompt, k the k-th answer."""
    n_prompt = len(tree.prompt)
    tokens = [*tree.prompt, *(x for answer in tree.answers for x in answer)]
    positions = [*range(n_prompt), *(n_prompt + t for answer in tree.answers for t in range(len(answer)))]
    branch = [*[0] * n_prompt, *(k for k, answer in enumerate(tree.answers, 1) for _ in answer)]
    return torch.tensor(tokens), torch.tensor(positions), torch.tensor(branch)


def _mask(tree_BL: Tensor, branch_BL: Tensor) -> Tensor:
    """Who attends to whom, [B, L, L]: backwards only, to the prefix, one's own prompt and one's own answer."""
    L = tree_BL.shape[1]
    query_tree, key_tree = tree_BL[:, :, None], tree_BL[:, None]
    query_branch, key_branch = branch_BL[:, :, None], branch_BL[:, None]
    seen = (key_branch == 0) | (key_branch == query_branch)
    mask = ((key_tree == query_tree) & (key_tree >= 0) & seen) | ((key_tree == 0) & (query_tree > 0))
    return (mask & torch.ones(L, L, dtype=torch.bool).tril()) | torch.eye(L, dtype=torch.bool)


def common_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all of these prompts begin with."""
    n = min(len(p) for p in prompts)
    for prompt in prompts[1:]:
        n = _alike(prompts[0], prompt, n)
    return n


def _alike(a: Sequence[int], b: Sequence[int], limit: int) -> int:
    return next((i for i in range(limit) if a[i] != b[i]), limit)


def layout(lengths: Sequence[int], n_prefix: int) -> tuple[list[list[int]], int]:
    """Spread trees of these lengths over as many rows as are needed, evenly; return the rows and their common length."""
    own = [n - n_prefix for n in lengths]
    room = max(ROW_TOKENS, ROW_PREFIXES * n_prefix, *own)
    rows: list[list[int]] = [[] for _ in range(max(1, -(-sum(own) // room)))]
    filled = [0] * len(rows)
    for i in sorted(range(len(own)), key=lambda i: (-own[i], i)):
        least = filled.index(min(filled))
        rows[least].append(i)
        filled[least] += own[i]
    return [row for row in rows if row], n_prefix + max(filled)


def micro_batches(trees: Sequence[Tree], rows: Sequence[int], token_budget: int) -> list[list[int]]:
    """Split rows into batches of at most `token_budget` computed positions, sorted by length.

    A batch also ends where one more tree would make padding more than `MAX_PADDING` of it, unless it is still short. A tree
    longer than the budget is a batch of its own. Every tree is in exactly one batch.
    """
    batches: list[list[int]] = []
    current: list[int] = []
    lengths: list[int] = []
    n_prefix = 0
    for row in sorted(rows, key=lambda i: (trees[i].length, i)):
        tree = trees[row]
        if current:
            shared = _alike(trees[current[0]].prompt, tree.prompt, min(n_prefix, len(tree.prompt)))
            laid, width = layout([*lengths, tree.length], shared)
            computed = len(laid) * width
            useful = sum(lengths) + tree.length - shared * (len(lengths) + 1 - len(laid))
            short = sum(lengths) - n_prefix * (len(lengths) - 1) < token_budget / 4
            if computed > token_budget or (1 - useful / computed > MAX_PADDING and not short):
                batches.append(current)
                current, lengths = [], []
        n_prefix = shared if current else len(tree.prompt)
        current.append(row)
        lengths.append(tree.length)
    return [*batches, current] if current else batches


def micro_batches_apart(trees: Sequence[Tree], rows: Sequence[int], token_budget: int) -> list[list[int]]:
    """As `micro_batches`, for trees whose answers are computed each with its own copy of the prompt."""
    batches: list[list[int]] = []
    n_sequences = 0
    for row in sorted(rows, key=lambda i: (trees[i].longest, i)):
        n_sequences += len(trees[row].answers)
        if not batches or n_sequences * trees[row].longest > token_budget:
            batches.append([])
            n_sequences = len(trees[row].answers)
        batches[-1].append(row)
    return batches


def decoder_of(model: nn.Module) -> PreTrainedModel:
    """Return the stack of layers under the head, adapters included, of a plain or a PEFT-wrapped model."""
    return inner_of(model).get_decoder()  # type: ignore[no-any-return]


def head_weight(model: nn.Module) -> Tensor:
    """Return the weight [V, D] whose product with the last hidden states are the model's logits.

    It is that of the language-model head; where the model multiplies its logits by a constant, a copy that is multiplied by it.

    Raises:
        ModelError: the logits are no such product, or the weight of one that is multiplied would be trained.
    """
    weight: Tensor = inner_of(model).get_output_embeddings().weight
    scale = logit_scale(model)
    if scale == 1:
        return weight
    if weight.requires_grad:
        raise ModelError(
            f"this model multiplies its logits by {scale:.6g}, with which a head is not trained: train adapters, not every weight"
        )
    return weight * scale


def last_states(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Return the last hidden state at each position. Shape [B, L, D]."""
    return _run(model, decoder_of(model), batch, input_ids=batch.ids_BL)


def answer_states(model: nn.Module, batch: TreeBatch) -> Tensor:
    """Return the last hidden state at each position that predicts a supervised token. Shape [N, D]."""
    return batch.predicting(last_states(model, batch))


def lower_states(model: nn.Module, batch: TreeBatch, first_layer: int) -> Tensor:
    """Return the hidden states that enter layer `first_layer`. Shape [B, L, D]; no gradient."""
    with torch.no_grad(), _layers(decoder_of(model), slice(0, first_layer), norm=False) as lower:
        return _run(model, lower, batch, input_ids=batch.ids_BL)


def upper_states(model: nn.Module, batch: TreeBatch, entering_BLD: Tensor, first_layer: int) -> Tensor:
    """As `last_states`, from what `lower_states` returned: only layers from `first_layer` on are run."""
    with _layers(decoder_of(model), slice(first_layer, None), norm=True) as upper:
        return _run(model, upper, batch, inputs_embeds=entering_BLD)


def _run(model: nn.Module, decoder: Any, batch: TreeBatch, **inputs: Tensor) -> Tensor:
    if batch.mask_B1LL is None:
        # Rows begin at position 0 and padding stands behind: what a model makes of positions by itself is right.
        output = run(model, decoder, attention_mask=batch.real_BL.long(), use_cache=False, **inputs)
        return output.last_hidden_state  # type: ignore[no-any-return]
    mask_B1LL = batch.mask_B1LL
    if decoder.config._attn_implementation == "eager":
        # Transformers' plain attention adds the mask to the scores; to a truth value that would be 0 or 1.
        mask_B1LL = torch.zeros_like(mask_B1LL, dtype=decoder.dtype).masked_fill(
            ~mask_B1LL, torch.finfo(decoder.dtype).min
        )
    with by_parts(decoder, batch.segments, mask_B1LL):
        output = run(
            model, decoder, attention_mask=mask_B1LL, position_ids=batch.positions_BL, use_cache=False, **inputs
        )
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
