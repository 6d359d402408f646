"""Runs a model on prompts and on multiple-choice questions, in parts that survive a kill, and has the answers scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from accord.data.records import read_attempts, write_records
from accord.errors import DataError
from accord.evals.summary import ChoiceResult
from accord.models.adapters import merged
from accord.models.chat import ChatFormat
from accord.models.head import token_logps
from accord.models.load import window
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.sharing import batches, lay_out
from accord.models.tree import Tree, answer_states, head_weight
from accord.types import Attempt, Choice, Message, Progress, Prompt, Score, last_user_text

# A part is written when it is done, and a kill costs one part: about 10 s of sampling on two cores.
PART_ROWS = 128
CHOICE_TOKENS = 2048


class Scorer(Protocol):
    """What reads an answer."""

    def score(self, prompt_text: str, answer: str) -> Score:
        """Return the outcome of one answer."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The conditions under which a model answers: a name, and the turns that stand before every prompt."""

    name: str
    before: tuple[Message, ...] = ()


def attempt_prompts(
    model: Any,
    chat: ChatFormat,
    prompts: Sequence[Prompt],
    setting: Setting,
    sampling: Sampling,
    scorer: Scorer,
    folder: Path,
    progress: Progress,
) -> tuple[Attempt, ...]:
    """Answer every prompt once and score the answer. Parts already in `folder` are read back, not done again.

    Raises:
        DataError: prompts longer than the model's window, each named; none is cut.
    """
    ids = [chat.prompt((*setting.before, *prompt.messages)) for prompt in prompts]
    _check_window(model, prompts, ids, sampling.max_new_tokens)
    order = sorted(range(len(prompts)), key=lambda i: (len(ids[i]), prompts[i].id))
    done: dict[str, Attempt] = {}
    progress.start(setting.name, len(prompts), "answers")
    with ready(model):
        for number, start in enumerate(range(0, len(order), PART_ROWS)):
            part = order[start : start + PART_ROWS]
            path = folder / f"attempts-{number:03d}.jsonl"
            if path.exists():
                attempts = read_attempts(path)
            else:
                rollouts = generate(
                    model, [ids[i] for i in part], [prompts[i].id for i in part], chat.end_ids, sampling, PART_ROWS
                )
                attempts = [
                    _attempt(prompts[i], setting, sampling, chat.decode(r.ids), len(r.ids), r.truncated, scorer)
                    for i, r in zip(part, rollouts, strict=True)
                ]
                write_records(path, attempts)
            done.update((a.prompt.id, a) for a in attempts)
            progress.advance(len(part))
    progress.finish()
    return tuple(done[p.id] for p in prompts)


def answer_choices(
    model: Any,
    chat: ChatFormat,
    choices: Sequence[Choice],
    progress: Progress,
    stage: str,
    before: Sequence[Message] = (),
) -> tuple[ChoiceResult, ...]:
    """Answer multiple-choice questions by likelihood: the choice whose text has the highest log-probability is taken.

    The end of the turn is left out, since a chat model seldom ends after a bare word (docs/log.md compares the forms).
    The question is computed once for all its choices. A tie for the best is unscored: it is no answer.
    """
    n_end = len(chat.answer(""))
    trees = [
        Tree(chat.prompt((*before, Message("user", c.question))), tuple(chat.answer(t)[:-n_end] for t in c.choices))
        for c in choices
    ]
    results: list[ChoiceResult] = []
    progress.start(stage, len(trees), "questions")
    with torch.inference_mode(), ready(model):
        head = Projection(head_weight(model))
        for rows in batches(model, trees, range(len(trees)), CHOICE_TOKENS):
            batch = lay_out(model, [trees[i] for i in rows])
            logps_N = token_logps(answer_states(model, batch), head, batch.targets_N).logps_N
            sums = logps_N.new_zeros(batch.n_answers).index_add(0, batch.answer_N, logps_N).tolist()
            first = 0
            for i in rows:
                n = len(choices[i].choices)
                results.append(_choice_result(choices[i], sums[first : first + n]))
                first += n
            progress.advance(len(rows))
    progress.finish()
    by_id = {r.choice_id: r for r in results}
    return tuple(by_id[c.id] for c in choices)


@contextmanager
def ready(model: Any) -> Iterator[None]:
    """Fold adapters in and pack the weights once for many calls."""
    with merged(model), packed(model):
        yield


def _attempt(
    prompt: Prompt, setting: Setting, sampling: Sampling, answer: str, n_tokens: int, truncated: bool, scorer: Scorer
) -> Attempt:
    return Attempt(
        id=f"{setting.name}/{prompt.id}",
        prompt=prompt,
        condition=setting.name,
        answer=answer,
        n_tokens=n_tokens,
        truncated=truncated,
        score=scorer.score(last_user_text(prompt.messages), answer),
        seed=sampling.seed,
    )


def _choice_result(choice: Choice, logps: Sequence[float]) -> ChoiceResult:
    best = max(logps)
    if logps.count(best) > 1:
        return ChoiceResult(choice.id, choice.family, None, "two choices equally likely")
    return ChoiceResult(choice.id, choice.family, logps.index(best) == choice.answer, "")


def _check_window(model: Any, prompts: Sequence[Prompt], ids: Sequence[Sequence[int]], n_new: int) -> None:
    limit = window(model)
    long = [(p.id, len(i)) for p, i in zip(prompts, ids, strict=True) if len(i) + n_new > limit]
    if long:
        named = ", ".join(f"{name} ({n} tokens)" for name, n in long[:5])
        raise DataError(
            f"{len(long)} of {len(prompts)} prompts do not fit the model's window of {limit} tokens with {n_new} new ones: {named}"
        )
