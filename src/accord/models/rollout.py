"""Rollouts: batched sampling from a causal language model, for whole groups of answers to one prompt.

Equal prompts are one group: the prompt is computed once, held once and attended to once for all of its answers. Groups are taken
from a queue, by length; where a quarter of the rows has ended, the next groups take their place, as a `cohort`. What all prompts of
a call begin with (a system prompt, demonstrations in context) is computed and held once. Adapters are folded into the weights while
sampling, and the very same bits are put back.

A model that cannot be run like this (attention within a window, a carried state, sinks) is run row by row, through transformers'
own cache.

Shapes: R rows, L positions, V vocabulary, H query heads, K key heads, D head size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from accord.models.adapters import merged
from accord.models.attention import is_special
from accord.models.cohort import Cohort, KeysValues, Looked, look_at_prefix, merged_looks
from accord.models.decoding import step_of
from accord.models.packed import held_still, packed
from accord.models.sampling import Sampling, draw, uniforms
from accord.models.sharing import why_apart, why_by_configuration
from accord.models.tree import Tree, common_prefix, decoder_of

NAME = "accord_rollout"
# Ended rows are dropped from memory once they are this share of a cohort: dropping copies what is kept.
COMPACT_SHARE = 0.15
# New rows are taken in once so many have ended: one at a time each would be a prefill, and a cohort, of its own.
ADMIT_SHARE = 0.25
# Prompts stand in one cohort up to so many times the shortest's own tokens, and some more.
LONGER, SOME_TOKENS = 1.5, 64
PREFILL_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer: its ids (with the end token, if it has one), their log-probabilities as sampled.

    `truncated` says that it was cut by the limit: it neither ended nor reached a stop string.
    """

    ids: tuple[int, ...]
    logps: tuple[float, ...]
    truncated: bool


@dataclass(slots=True)
class _Answer:
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    ended: bool = False


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    end_ids: frozenset[int],
    sampling: Sampling,
    batch_size: int = 128,
    on_batch: Callable[[int, int], None] | None = None,
    decode: Callable[[Sequence[int]], str] | None = None,
) -> list[Rollout]:
    """Sample one answer a row, in the order given; rows of equal prompts share all that the prompt costs.

    `keys` name the rows: a row's random numbers come from (seed, key). `batch_size` rows are in flight. `on_batch(rows, tokens)` is
    called as rows end. `decode` turns ids into text; stop strings need it.
    """
    if not prompts:
        return []
    longest = max(map(len, prompts)) + sampling.max_new_tokens
    told = _Told(end_ids, sampling, decode, on_batch)
    with torch.inference_mode(), merged(model), held_still(model), packed(model):
        answers = None
        decoder = decoder_of(model)
        if not why_by_configuration(decoder, longest) and decoder.config._attn_implementation == "sdpa":
            with suppress(_SpecialAttentionError), closing(_Engine(model, prompts, keys, told, batch_size)) as engine:
                answers = engine.run()
        # Where the configuration does not tell what a model attends to, a trial on what was sampled does, once a model and length.
        if answers is None or why_apart(model, _longest_and_shortest(prompts, answers)):
            answers = [_alone(model, p, key, told) for p, key in zip(prompts, keys, strict=True)]
    return [Rollout(tuple(a.ids), tuple(a.logps), not a.ended) for a in answers]


def _longest_and_shortest(prompts: Sequence[Sequence[int]], answers: Sequence[_Answer]) -> list[Tree]:
    trees = [Tree(tuple(p), (tuple(a.ids),)) for p, a in zip(prompts, answers, strict=True)]
    by_length = sorted(trees, key=lambda tree: tree.length)
    return [by_length[-1], by_length[0]] if len(by_length) > 1 else by_length


@dataclass(frozen=True, slots=True)
class _Told:
    """What a call asks for, beside its prompts."""

    end_ids: frozenset[int]
    sampling: Sampling
    decode: Callable[[Sequence[int]], str] | None
    on_batch: Callable[[int, int], None] | None

    def take(self, answer: _Answer, token: int, logp: float) -> bool:
        """Add a token to an answer; return whether the answer is done."""
        answer.ids.append(token)
        answer.logps.append(logp)
        answer.ended = token in self.end_ids or self._stops(answer.ids)
        return answer.ended or len(answer.ids) == self.sampling.max_new_tokens

    def _stops(self, ids: Sequence[int]) -> bool:
        stop = self.sampling.stop
        if not stop or self.decode is None:
            return False
        # A token is a character at least, or a part of one.
        tail = self.decode(ids[-(4 * max(map(len, stop)) + 4) :])
        return any(text in tail for text in stop)

    def report(self, done: Sequence[_Answer]) -> None:
        """Say that answers are done."""
        if done and self.on_batch:
            self.on_batch(len(done), sum(len(a.ids) for a in done))


def _alone(model: Any, prompt: Sequence[int], key: str, told: _Told) -> _Answer:
    """Sample one answer as any causal model can: with transformers' cache, by itself."""
    device = next(model.parameters()).device
    cache = DynamicCache(config=model.config)
    answer, luck = _Answer(), uniforms([key], told.sampling).to(device)
    ids = torch.tensor([list(prompt)], device=device)
    done = False
    while not done:
        output = model(input_ids=ids, cache=cache, use_cache=True, logits_to_keep=1)
        token, logp = draw(output.logits[:, -1], luck[:, len(answer.ids)], told.sampling)
        done = told.take(answer, int(token), float(logp))
        ids = token[:, None]
    told.report([answer])
    return answer


class _Layer(DynamicLayer):
    """What a layer of the model takes for its cache: it hands keys and values to the engine."""

    def __init__(self, engine: _Engine, number: int) -> None:
        super().__init__()
        self.engine, self.number = engine, number

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        return self.engine.keep(self.number, key_states, value_states)

    def get_seq_length(self, *_: Any) -> int:
        return 0  # positions are given


class _Engine:
    """One call: a queue of groups, the cohorts in flight, and what all prompts begin with."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], keys: Sequence[str], told: _Told, batch_size: int
    ) -> None:
        self.model, self.prompts, self.keys, self.told, self.batch_size = model, prompts, keys, told, batch_size
        self.device = next(model.parameters()).device
        self.configs = list(
            {id(m.config): m.config for m in decoder_of(model).modules() if hasattr(m, "config")}.values()
        )
        self.written_out = step_of(model)
        self.n_layers = model.config.num_hidden_layers
        self.cache = Cache(layers=[_Layer(self, n) for n in range(self.n_layers)])
        # Less than the shortest prompt has, so that each row has a last token.
        self.n_prefix = min(common_prefix(prompts), min(map(len, prompts)) - 1)
        self.prefix: list[KeysValues] = []
        self.answers = [_Answer() for _ in prompts]
        self.cohorts: list[Cohort] = []
        # Where the keys and values of a forward pass go: into the prefix, a slice of a new cohort's prompts, or the cohorts.
        self.filling: tuple[Cohort, slice] | None = None
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for row, prompt in enumerate(prompts):
            rows_of.setdefault(tuple(prompt), []).append(row)
        self.queue = deque(sorted(rows_of.items(), key=lambda item: (len(item[0]), item[0])))

    def run(self) -> list[_Answer]:
        """Sample every answer."""
        if self.n_prefix:
            head = torch.tensor([list(self.prompts[0][: self.n_prefix])], device=self.device)
            self._forward(head, torch.arange(self.n_prefix, device=self.device)[None], None)
        self.tokens = torch.zeros(0, dtype=torch.long, device=self.device)
        while self.queue or self.cohorts:
            n_free = self._n_free()
            if not self.cohorts or n_free >= max(1.0, ADMIT_SHARE * self.batch_size):
                while self.queue and n_free and self._admit(n_free):
                    n_free = self._n_free()
            if self.cohorts:
                self._step()
        return self.answers

    def close(self) -> None:
        """Let go of what is large: the engine and its layers hold each other, so that it would wait for the garbage collector."""
        self.cache.layers.clear()
        self.written_out = None

    def _n_free(self) -> int:
        return self.batch_size - sum(cohort.n_alive for cohort in self.cohorts)

    def _admit(self, n_free: int) -> bool:
        """Take groups from the queue into a new cohort, and return whether any was taken.

        A group is parted only where it would never fit. A cohort's prompts are padded to its longest: one that is much longer than
        the shortest begins another cohort.
        """
        groups: list[tuple[tuple[int, ...], list[int]]] = []
        while self.queue and n_free:
            prompt, rows = self.queue[0]
            if groups and len(prompt) - self.n_prefix > LONGER * (len(groups[0][0]) - self.n_prefix) + SOME_TOKENS:
                break
            if len(rows) > n_free:
                if groups or self.cohorts:
                    break
                groups.append((prompt, rows[:n_free]))
                self.queue[0] = (prompt, rows[n_free:])
                break
            groups.append(self.queue.popleft())
            n_free -= len(rows)
        if not groups:
            return False
        prompts, rows = [prompt for prompt, _ in groups], [row for _, rows in groups for row in rows]
        own = [len(prompt) - self.n_prefix for prompt in prompts]
        sizes = torch.tensor([len(rows) for _, rows in groups], device=self.device)
        width = max(own)
        bias = None
        if min(own) < width:
            padded = torch.arange(width)[None] < torch.tensor([[width - n] for n in own])
            bias = torch.zeros(padded.shape, dtype=self.model.dtype).masked_fill(padded, -torch.inf)[:, None, None]
            bias = bias.to(self.device)
        cohort = Cohort(
            rows=torch.tensor(rows, device=self.device),
            prompt_R=torch.arange(len(groups), device=self.device).repeat_interleave(sizes),
            lengths_R=torch.tensor(list(map(len, prompts)), device=self.device).repeat_interleave(sizes),
            uniforms=uniforms([self.keys[row] for row in rows], self.told.sampling).to(self.device),
            bias_P11L=bias,
            prompts=[],
            said=[[] for _ in range(self.n_layers)],
        )
        logits_PV = self._prefill(cohort, prompts, width)
        tokens = self._take([cohort], logits_PV[cohort.prompt_R])
        if cohort.n_alive:
            self.cohorts.append(cohort)
            self.tokens = torch.cat([self.tokens, tokens])
        return True

    def _prefill(self, cohort: Cohort, prompts: Sequence[tuple[int, ...]], width: int) -> Tensor:
        """Compute prompts behind the common prefix, a few of like length at a time; return their last logits [P, V]."""
        self.room = (len(prompts), width)
        parts: list[Tensor] = []
        start = 0
        while start < len(prompts):
            # Prompts come sorted by length: a slice is padded to its own longest, not to the cohort's.
            end = start + 1
            while end < len(prompts) and (len(prompts[end]) - self.n_prefix) * (end + 1 - start) <= PREFILL_TOKENS:
                end += 1
            own = [prompt[self.n_prefix :] for prompt in prompts[start:end]]
            t = max(map(len, own))
            ids = torch.zeros(len(own), t, dtype=torch.long)
            real = torch.zeros(len(own), t, dtype=torch.bool)
            for b, prompt in enumerate(own):
                ids[b, t - len(prompt) :] = torch.tensor(prompt)
                real[b, t - len(prompt) :] = True
            ids, real = ids.to(self.device), real.to(self.device)
            positions = self.n_prefix + (real.cumsum(1) - 1).clamp_min(0)
            itself = torch.eye(t, dtype=torch.bool, device=self.device)
            within = (real[:, None, None, :] & torch.ones_like(itself).tril()) | itself
            mask = torch.cat([within.new_ones(len(own), 1, t, self.n_prefix), within], dim=-1)
            self.filling = cohort, slice(start, end)
            parts.append(self._forward(ids, positions, mask))
            start = end
        self.filling = None
        return torch.cat(parts)

    def _step(self) -> None:
        """Let every row say its next token."""
        positions = torch.cat([cohort.lengths_R + cohort.n_said for cohort in self.cohorts])
        if self.written_out is not None:
            logits_RV = self.written_out(self.tokens, positions, self._keep_and_attend)
        else:
            with _attending(self):
                logits_RV = self._forward(self.tokens[:, None], positions[:, None], None)
        for cohort in self.cohorts:
            cohort.n_said += 1
        tokens = self._take(self.cohorts, logits_RV)
        kept: list[Tensor] = []
        for cohort, own in zip(self.cohorts, tokens.split([len(c.rows) for c in self.cohorts]), strict=True):
            n_alive = cohort.n_alive
            if n_alive and n_alive <= (1 - COMPACT_SHARE) * len(cohort.rows):
                own = own[cohort.alive_R]
                cohort.drop_ended()
            if n_alive:
                kept.append(own)
        self.cohorts = [cohort for cohort in self.cohorts if cohort.n_alive]
        self.tokens = torch.cat(kept) if kept else tokens[:0]

    def _take(self, cohorts: Sequence[Cohort], logits_RV: Tensor) -> Tensor:
        """Draw a token for each row of these cohorts, and note those of rows that are alive."""
        luck = torch.cat([cohort.uniforms[:, cohort.n_said] for cohort in cohorts])
        tokens, logps = draw(logits_RV, luck, self.told.sampling)
        said = iter(zip(tokens.tolist(), logps.tolist(), strict=True))
        done: list[_Answer] = []
        for cohort in cohorts:
            alive = cohort.alive_R.tolist()
            for place, (row, live) in enumerate(zip(cohort.rows.tolist(), alive, strict=True)):
                token, logp = next(said)
                if live and self.told.take(self.answers[row], token, logp):
                    alive[place] = False
                    done.append(self.answers[row])
            cohort.alive_R = torch.tensor(alive, device=self.device)
        self.told.report(done)
        return tokens

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor:
        """Return the last position's logits. Shape [R, V]."""
        if mask is None:
            # Any mask of four dimensions is taken as it is; what it says is not asked for.
            mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool, device=self.device).tril()
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            cache=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def keep(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep what a forward pass computed of a layer; return the keys and values that its queries attend to."""
        if self.filling:
            cohort, rows = self.filling
            if len(cohort.prompts) == layer:
                P, width = self.room
                # Padding is masked, but a stray NaN in fresh memory would survive the mask: begin with zeros.
                shape = (P, keys.shape[1], width, keys.shape[3])
                cohort.prompts.append((keys.new_zeros(shape), values.new_zeros(shape)))
            for kept, new in zip(cohort.prompts[layer], (keys, values), strict=True):
                kept[rows, :, kept.shape[2] - new.shape[2] :] = new
            if not self.n_prefix:
                return keys, values
            n = len(keys)
            pairs = zip(self.prefix[layer], (keys, values), strict=True)
            keys, values = (torch.cat([p.expand(n, -1, -1, -1), new], dim=2) for p, new in pairs)
        elif self.cohorts:
            self._say(layer, keys[:, :, 0], values[:, :, 0])
        else:
            self.prefix.append((keys.clone(), values.clone()))
        return keys, values

    def _say(self, layer: int, keys_RKD: Tensor, values_RKD: Tensor) -> None:
        """Keep each row's newest keys and values with its cohort."""
        if len(self.cohorts) == 1:
            self.cohorts[0].say(layer, keys_RKD, values_RKD)
            return
        sizes = [len(cohort.rows) for cohort in self.cohorts]
        for cohort, k, v in zip(self.cohorts, keys_RKD.split(sizes), values_RKD.split(sizes), strict=True):
            cohort.say(layer, k, v)

    def _keep_and_attend(self, layer: int, query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        self._say(layer, keys, values)
        return self.attend(layer, query, scale)

    def attend(self, layer: int, query_RHD: Tensor, scale: float) -> Tensor:
        """Return attention of each row's newest token to all that it may see. Shape [R, H, D]."""
        query_RHD = query_RHD.contiguous()
        at_prefix = look_at_prefix(self.prefix[layer], query_RHD, scale) if self.n_prefix else None
        parts: list[Tensor] = []
        start = 0
        for cohort in self.cohorts:
            rows = slice(start, start + len(cohort.rows))
            looked = cohort.look(layer, query_RHD[rows], scale)
            if at_prefix is not None:
                looked.append(Looked(at_prefix.value[rows], at_prefix.weight[rows]))
            parts.append(merged_looks(looked))
            start = rows.stop
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).to(query_RHD.dtype)


class _SpecialAttentionError(Exception):
    """Attention is more than queries, keys and values here: sinks, a cap, a bias."""


_running: ContextVar[_Engine | None] = ContextVar("rollout", default=None)


@contextmanager
def _attending(engine: _Engine) -> Iterator[None]:
    before = [config._attn_implementation for config in engine.configs]
    token = _running.set(engine)
    for config in engine.configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in zip(engine.configs, before, strict=True):
            config._attn_implementation = name
        _running.reset(token)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions: [R, H, 1, D] to [R, 1, H, D]."""
    if is_special(query, value, more):
        raise _SpecialAttentionError
    engine = _running.get()
    assert engine is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return engine.attend(module.layer_idx, query[:, :, 0], scale)[:, None], None


AttentionInterface.register(NAME, _attend)
