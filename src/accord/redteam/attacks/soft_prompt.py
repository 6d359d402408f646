"""An attack on the embeddings, beyond what any text can do (Schwinn et al. 2024, arXiv 2402.09063)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import DynamicCache

from accord.errors import SettingsError
from accord.models.completer import Ability, Completion
from accord.models.local import WhiteBox, white_box_of
from accord.redteam.dressing import Dressed
from accord.redteam.target import Budget, Reader, Target
from accord.redteam.white_box import AFFIRMATIVE, TargetLoss, asking_steps, cut_slot
from accord.types import Conversation, Prompt


@dataclass(frozen=True)
class SoftPrompt:
    """Optimises vectors behind the request instead of words: no text an attacker could send, but an upper bound of all suffixes."""

    beginning: str = AFFIRMATIVE
    n_vectors: int = 20
    step_share: float = 0.1
    needs: ClassVar[frozenset[Ability]] = frozenset({Ability.GRADIENTS})
    white_box: ClassVar[bool] = True

    async def __call__(self, goal: Prompt, target: Target, budget: Budget, rng: random.Random) -> None:
        """Take `budget.steps` steps; answer at even distances between them, always with the likeliest token."""
        box = white_box_of(target.completer)
        search = await box.run(
            lambda: VectorSearch(box, goal.messages, self.beginning, self.n_vectors, self.step_share)
        )
        asking = asking_steps(budget.steps, target.left)
        for step in range(1, budget.steps + 1):
            await box.run(search.step)
            if step in asking:
                completion = await box.run(lambda: search.answer(target.sampling.max_new_tokens))
                attempt = await target.record(goal.messages, completion, search.note)
                if target.succeeded(attempt):
                    return

    def reader(self, goal: Prompt, dressed: Dressed, target: Target) -> Reader | None:
        """Refuse to ask again: the text alone is another question.

        Raises:
            SettingsError: always.
        """
        raise SettingsError("soft_prompt gave the model vectors, which are no text and are not kept")


class VectorSearch:
    """Descent along the gradient's sign, as in the paper, from the embeddings of a plain suffix; the best vectors are kept.

    A step is `step_share` of the root mean square of the model's own embeddings, whose scale differs between models.
    """

    def __init__(
        self, box: WhiteBox, messages: Conversation, beginning: str, n_vectors: int, step_share: float
    ) -> None:
        self.box = box
        self.target_loss = TargetLoss(box, cut_slot(box.chat, messages, " !" * n_vectors, beginning))
        # In fp32: a step can be smaller than what bf16 tells apart.
        self.vectors_SD: Tensor = self.target_loss.vectors(self.target_loss.slot.suffix).float()
        table_VD: Tensor = box.loaded.model.get_input_embeddings().weight
        self.step_size = step_share * float(table_VD.float().square().mean().sqrt())
        self.best_SD, self.loss = self.vectors_SD, float("inf")
        self.n_steps = 0

    @property
    def note(self) -> str:
        """What the model was given that is no text."""
        return (
            f"{len(self.best_SD)} vectors of its own follow the text; loss {self.loss:.4f} after {self.n_steps} steps"
        )

    def step(self) -> None:
        """Take the loss of the vectors as they are, then move each number by one step."""
        loss, gradient_SD = self.target_loss.gradient(self.vectors_SD)
        if loss < self.loss:
            self.best_SD, self.loss = self.vectors_SD, loss
        self.vectors_SD = self.vectors_SD - self.step_size * gradient_SD.float().sign()
        self.n_steps += 1

    def answer(self, max_new_tokens: int) -> Completion:
        """Return the model's answer to the goal with the best vectors behind it."""
        slot, chat = self.target_loss.slot, self.box.chat
        before, after = self.target_loss.vectors(slot.before), self.target_loss.vectors(slot.after)
        embeds_LD = torch.cat([before, self.best_SD.to(before.dtype), after])
        ids = continue_embeddings(self.box.loaded.model, embeds_LD, chat.end_ids, max_new_tokens)
        return Completion(chat.decode(ids), len(ids), not ids or ids[-1] not in chat.end_ids)


def continue_embeddings(model: Any, embeds_LD: Tensor, end_ids: frozenset[int], max_new_tokens: int) -> Sequence[int]:
    """Return the likeliest continuation of input embeddings, token by token, with the end token where it came."""
    ids: list[int] = []
    cache = DynamicCache(config=model.config)
    given: dict[str, Tensor] = {"inputs_embeds": embeds_LD[None]}
    with torch.inference_mode():
        while len(ids) < max_new_tokens:
            logits_V = model(**given, cache=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
            ids.append(int(logits_V.argmax()))
            if ids[-1] in end_ids:
                break
            given = {"input_ids": torch.tensor([[ids[-1]]], device=embeds_LD.device)}
    return ids
