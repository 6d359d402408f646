"""A model in this process as a `Completer`: what many coroutines ask for is sampled in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

import torch

from accord.errors import DataError, ModelError
from accord.models.adapters import merged
from accord.models.chat import ChatFormat
from accord.models.coalesce import Coalescer
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.head import token_logps
from accord.models.load import LoadedModel, window
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.sharing import batches, lay_out
from accord.models.tree import FORWARD_TOKENS, Tree, answer_states, head_weight
from accord.types import Conversation

MAX_ROWS = 128
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WhiteBox:
    """What an attack with gradients works on. `alone` is held by whatever computes: a model's attention is switched for a while."""

    loaded: LoadedModel
    chat: ChatFormat
    alone: Lock = field(default_factory=Lock)

    async def run(self, work: Callable[[], _T]) -> _T:
        """Return what `work` computes with the model, in a thread, with no answer being sampled meanwhile."""

        def locked() -> _T:
            with self.alone:
                return work()

        return await asyncio.to_thread(locked)


def white_box_of(completer: Completer) -> WhiteBox:
    """Return the model behind a completer.

    Raises:
        ModelError: it gives no gradients.
    """
    box = getattr(completer, "white_box", None)
    if isinstance(box, WhiteBox) and Ability.GRADIENTS in completer.abilities:
        return box
    raise ModelError(
        f"'{completer.name}' gives no gradients: attack the weights themselves, as a model's folder, a run, a hub id or 'starter'"
    )


class LocalCompleter:
    """Answers from a model in memory; its weights must not change before `close`."""

    def __init__(self, loaded: LoadedModel, max_rows: int = MAX_ROWS, name: str = "") -> None:
        self.white_box = WhiteBox(loaded, ChatFormat(loaded.tokenizer))
        self.name = name or loaded.name
        self.fingerprint = loaded.fingerprint
        self.abilities = frozenset(Ability)
        self._held = ExitStack()
        self._held.enter_context(merged(loaded.model))
        self._held.enter_context(packed(loaded.model))
        self._complete = Coalescer(self.complete_all, max_rows)
        self._logps = Coalescer(self.logps_all, max_rows)

    async def complete(self, request: Request) -> Completion:
        """Sample an answer together with whatever else is asked for now; one that exceeds the window is an error."""
        return await self._complete(request)

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Return the log-probability of each answer's text; the conversation is computed once for all of them."""
        return await self._logps((messages, tuple(answers)))

    async def close(self) -> None:
        """End the threads and give the model back as it was."""
        self._complete.close()
        self._logps.close()
        self._held.close()

    def complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer many requests at once, without an event loop."""
        with self.white_box.alone:
            return self._complete_all(requests)

    def _complete_all(self, requests: Sequence[Request]) -> list[Completion]:
        model, chat = self.white_box.loaded.model, self.white_box.chat
        done: dict[int, Completion] = {}
        by_sampling: dict[Sampling, list[tuple[int, tuple[int, ...]]]] = {}
        for i, request in enumerate(requests):
            try:
                ids = chat.prompt(request.messages) + chat.opening(request.prefill)
            except DataError as error:
                done[i] = Completion("", error=str(error))
                continue
            room = window(model) - len(ids)
            if room < request.sampling.max_new_tokens:
                done[i] = Completion(
                    "", error=f"{len(ids)} tokens leave no room for {request.sampling.max_new_tokens} in the window"
                )
                continue
            by_sampling.setdefault(request.sampling, []).append((i, ids))
        for sampling, rows in by_sampling.items():
            keys = [requests[i].key for i, _ in rows]
            rollouts = generate(model, [ids for _, ids in rows], keys, chat.end_ids, sampling)
            for (i, _), rollout in zip(rows, rollouts, strict=True):
                done[i] = Completion(chat.decode(rollout.ids), len(rollout.ids), rollout.truncated)
        return [done[i] for i in range(len(requests))]

    def logps_all(self, rows: Sequence[tuple[Conversation, tuple[str, ...]]]) -> list[tuple[float, ...]]:
        """As `logps`, for many conversations at once, without an event loop."""
        with self.white_box.alone:
            return self._logps_all(rows)

    def _logps_all(self, rows: Sequence[tuple[Conversation, tuple[str, ...]]]) -> list[tuple[float, ...]]:
        model, chat = self.white_box.loaded.model, self.white_box.chat
        trees = [Tree(chat.prompt(messages), tuple(chat.opening(a) for a in answers)) for messages, answers in rows]
        found: dict[int, tuple[float, ...]] = {}
        with torch.inference_mode():
            head = Projection(head_weight(model))
            for part in batches(model, trees, range(len(trees)), FORWARD_TOKENS):
                batch = lay_out(model, [trees[i] for i in part])
                sums = batch.sums(token_logps(answer_states(model, batch), head, batch.targets_N).logps_N).tolist()
                for i in part:
                    found[i], sums = tuple(sums[: len(trees[i].answers)]), sums[len(trees[i].answers) :]
        return [found[i] for i in range(len(rows))]
