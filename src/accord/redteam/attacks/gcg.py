"""Greedy coordinate gradient: a suffix found token by token along the gradient (Zou et al. 2023, arXiv 2307.15043)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.models.chat import ChatFormat
from accord.models.completer import Ability
from accord.models.local import WhiteBox, white_box_of
from accord.redteam.target import Budget, Target
from accord.redteam.white_box import AFFIRMATIVE, TargetLoss, asking_steps, cut_slot, with_suffix
from accord.types import Conversation, Prompt

# So many draws a wanted candidate: some do not survive being read back.
MOST_DRAWS = 4


@dataclass(frozen=True)
class Gcg:
    """Searches a suffix that makes an affirmative beginning likely, by token gradients (GCG); needs the weights."""

    beginning: str = AFFIRMATIVE
    n_tokens: int = 20
    n_candidates: int = 64
    top_k: int = 256
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.GRADIENTS})
    white_box: ClassVar[bool] = True

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Take `budget.steps` steps; ask at even distances between them with the best suffix, where it is a new one."""
        box = white_box_of(target.completer)
        search = await box.run(lambda: SuffixSearch(box, goal.messages, self.beginning, self.n_tokens))
        asking = asking_steps(budget.steps, target.left)
        asked: tuple[int, ...] = ()
        for step in range(1, budget.steps + 1):
            await box.run(lambda: search.step(self.n_candidates, self.top_k, rng))
            if step in asking and search.suffix != asked:
                asked = search.suffix
                attempt = await target.ask(search.messages)
                if target.succeeded(attempt):
                    return


class SuffixSearch:
    """Algorithm 1 of the paper, with one change: a suffix is left only for a better one.

    With 64 candidates a step, not 512, the best of them is often worse than what it came from.
    """

    def __init__(self, box: WhiteBox, messages: Conversation, beginning: str, n_tokens: int) -> None:
        self.chat, self.goal = box.chat, messages
        self.target_loss = TargetLoss(box, cut_slot(box.chat, messages, " !" * n_tokens, beginning))
        self.suffix = self.target_loss.slot.suffix
        self.loss = self.target_loss.of([self.suffix], self.suffix)[0]
        weight_VD = box.loaded.model.get_input_embeddings().weight
        self.table_VD: Tensor = weight_VD
        self.forbidden_V = _forbidden(box.chat, len(weight_VD)).to(weight_VD.device)

    @property
    def messages(self) -> Conversation:
        """The goal with the best suffix so far."""
        return with_suffix(self.goal, self.chat.decode(self.suffix))

    def step(self, n_candidates: int, top_k: int, rng: random.Random) -> None:
        """Exchange one token, if one of the candidates has a smaller loss."""
        candidates = self.candidates(n_candidates, top_k, rng)
        if not candidates:
            return
        losses = self.target_loss.of(candidates, self.suffix)
        best = min(range(len(candidates)), key=losses.__getitem__)
        if losses[best] < self.loss:
            self.suffix, self.loss = candidates[best], losses[best]

    def candidates(self, n: int, top_k: int, rng: random.Random) -> list[tuple[int, ...]]:
        """Return up to `n` suffixes with one token exchanged for one of the `top_k` along which the loss falls fastest."""
        _, gradient_SD = self.target_loss.gradient(self.target_loss.vectors(self.suffix))
        fall_SV = -(gradient_SD @ self.table_VD.t()).float()
        fall_SV[:, self.forbidden_V] = -torch.inf
        best_SK = fall_SV.topk(min(top_k, int((~self.forbidden_V).sum())), dim=1).indices.tolist()
        found: dict[tuple[int, ...], None] = {}
        for _ in range(MOST_DRAWS * n):
            place = rng.randrange(len(self.suffix))
            candidate = (*self.suffix[:place], rng.choice(best_SK[place]), *self.suffix[place + 1 :])
            if candidate != self.suffix and candidate not in found and self._is_read_back(candidate):
                found[candidate] = None
                if len(found) == n:
                    break
        return list(found)

    def _is_read_back(self, suffix: tuple[int, ...]) -> bool:
        """Whether the conversation with the suffix's text has the very ids that were searched: else another prompt is asked."""
        slot = self.target_loss.slot
        ids = self.chat.prompt(with_suffix(self.goal, self.chat.decode(suffix)))
        return ids == (*slot.before, *suffix, *slot.after)


def _forbidden(chat: ChatFormat, n_vocabulary: int) -> Tensor:
    """Which ids are no plain text: control tokens, bytes of a letter, rows beyond the tokenizer's. Shape [V]."""
    n = min(n_vocabulary, len(chat.tokenizer))
    texts = chat.tokenizer.batch_decode([[i] for i in range(n)])
    plain = [text.isascii() and text.isprintable() and text not in chat.control_tokens for text in texts]
    return torch.tensor([not p for p in plain] + [True] * (n_vocabulary - n))
