"""What white-box attacks share: a place for a suffix in a conversation, and the loss of a target beginning of the answer.

The loss is the mean negative log-probability, in nats a token, of the target's tokens (Zou et al., arXiv 2307.15043, equation 1).

Shapes: S positions of the suffix, D hidden size, V vocabulary, N supervised tokens over all candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from accord.errors import DataError
from accord.models.chat import ChatFormat
from accord.models.head import token_logps
from accord.models.local import WhiteBox
from accord.models.projection import Projection
from accord.models.sharing import batches, lay_out
from accord.models.tree import FORWARD_TOKENS, Tree, answer_states, common_prefix, head_weight, upper_states
from accord.types import Conversation

AFFIRMATIVE = "Sure, here is"
"""The beginning of an answer that attacks with log-probabilities make likely: generic, so that it fits any request."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A prompt's token ids, cut at the suffix, and the target's: the model reads before + suffix + after + target."""

    before: tuple[int, ...]
    suffix: tuple[int, ...]
    after: tuple[int, ...]
    target: tuple[int, ...]


def with_suffix(messages: Conversation, suffix: str) -> Conversation:
    """Return a conversation whose last turn goes on with a suffix."""
    return (*messages[:-1], replace(messages[-1], content=messages[-1].content + suffix))


def cut_slot(chat: ChatFormat, messages: Conversation, suffix: str, target: str) -> Slot:
    """Return where a suffix stands in a conversation's ids: what is added to them where it is added to the text.

    Raises:
        DataError: the suffix adds no tokens of its own.
    """
    without, ids = chat.prompt(messages), chat.prompt(with_suffix(messages, suffix))
    n_before = common_prefix([without, ids])
    n_after = common_prefix([without[n_before:][::-1], ids[n_before:][::-1]])
    end = len(ids) - n_after
    if n_before >= end:
        raise DataError(f"the suffix {suffix!r} adds no tokens to the prompt")
    return Slot(ids[:n_before], ids[n_before:end], ids[end:], chat.opening(target))


def asking_steps(n_steps: int, n_queries: int) -> frozenset[int]:
    """Return after how many steps of a search the model is asked: evenly spread, the last among them, at most `n_queries`."""
    n = min(n_steps, n_queries)
    return frozenset(n_steps * k // n for k in range(1, n + 1))


class TargetLoss:
    """The loss of a target at one slot, for candidates by the batch and for vectors with their gradient."""

    def __init__(self, box: WhiteBox, slot: Slot) -> None:
        self.model, self.slot = box.loaded.model, slot
        self.head = Projection(head_weight(self.model))

    def of(self, suffixes: Sequence[tuple[int, ...]], near: tuple[int, ...]) -> list[float]:
        """Return the loss of each candidate.

        What candidates have in common is computed once: the prompt up to the suffix for all, and for those that leave `near` at
        one place its tokens before that place.
        """
        by_place: dict[int, list[int]] = {}
        for i, suffix in enumerate(suffixes):
            by_place.setdefault(common_prefix([suffix, near]), []).append(i)
        groups = [by_place[place] for place in sorted(by_place)]
        trees = [self._tree(near[:place], [suffixes[i] for i in by_place[place]]) for place in sorted(by_place)]
        found: dict[int, float] = {}
        with torch.inference_mode():
            for part in batches(self.model, trees, range(len(trees)), FORWARD_TOKENS):
                batch = lay_out(self.model, [trees[t] for t in part])
                to_end_N = batch.lengths().cumsum(0)[batch.answer_N] - torch.arange(
                    len(batch.answer_N), device=batch.answer_N.device
                )
                supervised_N = to_end_N <= len(self.slot.target)
                hidden_ND = answer_states(self.model, batch)[supervised_N]
                logps_N = token_logps(hidden_ND, self.head, batch.targets_N[supervised_N]).logps_N
                losses = (-logps_N.view(-1, len(self.slot.target)).mean(1)).tolist()
                found.update(zip((i for t in part for i in groups[t]), losses, strict=True))
        return [found[i] for i in range(len(suffixes))]

    def _tree(self, shared: tuple[int, ...], suffixes: Sequence[tuple[int, ...]]) -> Tree:
        rest = (*self.slot.after, *self.slot.target)
        return Tree((*self.slot.before, *shared), tuple((*suffix[len(shared) :], *rest) for suffix in suffixes))

    def vectors(self, ids: Sequence[int]) -> Tensor:
        """Return the input embeddings of tokens. Shape [S, D]; no gradient."""
        with torch.no_grad():
            embedding = self.model.get_input_embeddings()
            return embedding(torch.tensor(list(ids), device=next(self.model.parameters()).device))  # type: ignore[no-any-return]

    def gradient(self, vectors_SD: Tensor) -> tuple[float, Tensor]:
        """Return the loss where vectors stand in the suffix's place, and its gradient with respect to them. Shape [S, D]."""
        slot = self.slot
        # Which ids stand in the suffix's place does not matter, only how many.
        tree = Tree((*slot.before, *[0] * len(vectors_SD), *slot.after), (slot.target,))
        batch = lay_out(self.model, [tree])
        row, columns = batch.places[0]
        embeds_BLD = self.vectors(batch.ids_BL[row].tolist())[None]
        with torch.enable_grad():
            given_SD = vectors_SD.detach().to(embeds_BLD.dtype).requires_grad_()
            at = columns[len(slot.before) : len(slot.before) + len(vectors_SD)].to(embeds_BLD.device)
            states_BLD = upper_states(self.model, batch, embeds_BLD.index_copy(1, at, given_SD[None]), 0)
            loss = -token_logps(batch.predicting(states_BLD), self.head, batch.targets_N).logps_N.mean()
            (gradient_SD,) = torch.autograd.grad(loss, given_SD)
        return float(loss.detach()), gradient_SD
