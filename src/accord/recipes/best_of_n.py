"""`accord train best-of-n`: the best of several answers to each prompt, and what choosing among more of them is worth.

Nothing is trained. It is the least that reinforcement learning must beat, and shows how far a reward can be trusted: the more
answers it chooses from, the more its own mean rises, and where a second reward that never chose stops rising with it, the reward
is no longer true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any

from accord.data.jsonl import write_rows
from accord.data.messages import messages_to_rows
from accord.errors import DataError
from accord.feedback.repair import whole_sentences
from accord.models.chat import ChatFormat
from accord.models.load import load_model, window
from accord.models.precision import Precision
from accord.models.sampling import Sampling
from accord.policy import load_policy
from accord.recipes.online_run import read_asked
from accord.recipes.reporting import machine_facts
from accord.recipes.reward_truth import once
from accord.report.best_of_page import BestOf, BestPoint, write_best_of
from accord.runs.atomic import file_digest
from accord.runs.folder import open_run
from accord.scorers.as_reward import combined, reward_named
from accord.starter import policy_path
from accord.stats import best_of, best_of_kl, mean
from accord.train.collect import Judges, Source, rewarded, scored
from accord.train.samples import Sample
from accord.types import Estimate, Message, Progress

# Prompts whose answers are sampled together and kept: what a cut loses.
PART = 16
BEST, ANSWERS = "best.jsonl", "answers"


@dataclass(frozen=True, slots=True)
class BestAsked:
    """A model, what chooses among `group` answers to a prompt, and what watches and does not choose."""

    model: str
    rewards: tuple[str, ...]
    watcher: str = ""
    group: int = 16
    max_new_tokens: int = 64
    temperature: float = 1.0
    limit: int = 0
    policy: str = ""
    precision: Precision = "auto"
    seed: int = 0


def run_best_of_n(data: Path, out: Path, asked: BestAsked, progress: Progress) -> tuple[dict[str, Any], BestOf]:
    """Sample, choose, write each prompt's best answer as a conversation, and measure what choosing among fewer comes to.

    A best answer that the limit cut is written as far as its last whole sentence: who learns it must not learn to break off.

    Raises:
        DataError: rows that cannot be used, prompts that leave no room for an answer, or no answer could be scored.
        SettingsError: a reward cannot be.
    """
    document = load_policy(asked.policy or policy_path())
    watcher = reward_named(asked.watcher, document) if asked.watcher else None
    judges = Judges(combined(asked.rewards, document), watcher=watcher)
    loaded = load_model(asked.model, asked.precision)
    chat = ChatFormat(loaded.tokenizer)
    prompts = read_asked(data, chat, window(loaded.model) - asked.max_new_tokens)[: asked.limit or None]
    open_run(out, {"verb": "train best-of-n", **asdict(asked), "data": file_digest(data)}, machine_facts())
    source = Source(loaded.model, chat.end_ids, chat.decode)
    sampling = Sampling(asked.max_new_tokens, asked.temperature, asked.seed)

    def sampled(start: int) -> list[Sample]:
        own = prompts[start : start + PART]
        return scored(source, judges, own, asked.group, source.answer(own, asked.group, sampling))

    progress.start("answers", len(prompts), "prompts")
    samples: list[Sample] = []
    for start in range(0, len(prompts), PART):
        samples += once(out / ANSWERS / f"{start // PART:04d}.jsonl", partial(sampled, start))
        progress.advance(len(prompts[start : start + PART]))
    progress.finish()
    samples = rewarded(samples, judges, prompts)
    by_prompt: dict[str, list[Sample]] = {a.prompt.id: [] for a in prompts}
    for s in samples:
        if s.reward is not None:
            by_prompt[s.prompt].append(s)
    unscored = dict(Counter(reason for s in samples if s.reward is None for reason in s.unscored.values()))
    if not any(by_prompt.values()):
        raise DataError(f"{data}: not one of {len(samples)} answers could be scored ({_listed(unscored)})")
    messages = {a.prompt.id: a.prompt.messages for a in prompts}
    texts = {id: learned_text(max(own, key=_reward)) for id, own in by_prompt.items() if own}
    rows = [
        {"messages": messages_to_rows((*messages[id], Message("assistant", text)))}
        for id, text in texts.items()
        if text
    ]
    write_rows(out / BEST, rows)
    found = measured(list(by_prompt.values()), judges.reward.name, watcher.name if watcher else "", asked)
    page = write_best_of(found, out / "report.html")
    facts = {
        "prompts": len(prompts),
        "answers": len(samples),
        "answers without a score": _listed(unscored) or "none",
        "best answers": f"{out / BEST}: {len(rows)} of {len(prompts)} prompts",
        "prompts left out": f"{len(prompts) - len(texts)} without a scored answer, {len(texts) - len(rows)} whose best has no "
        "whole sentence",
        "all answers": str(out / ANSWERS),
        "report": str(page),
    }
    return facts, found


def measured(groups: Sequence[Sequence[Sample]], reward: str, watcher: str, asked: BestAsked) -> BestOf:
    """Return what the best of 1, 2, 4, … answers is worth, by what chose and by what watched; prompts are the units."""
    sizes = [2**i for i in range(asked.group.bit_length()) if 2**i <= asked.group]
    if sizes[-1] != asked.group:
        sizes.append(asked.group)
    seen = [[s for s in own if s.scores.get(watcher) is not None] for own in groups] if watcher else []
    points = []
    for k in sizes:
        by_reward = _gain(k, [([_reward(s) for s in own],) * 2 for own in groups])
        by_watcher = None
        if watcher:
            by_watcher = _gain(
                k, [([_reward(s) for s in own], [s.scores[watcher] or 0.0 for s in own]) for own in seen]
            )
        points.append(BestPoint(k, best_of_kl(k), by_reward, by_watcher))
    return BestOf(
        model=asked.model,
        reward=reward,
        watcher=watcher,
        points=tuple(points),
        deviation=_deviation([_reward(s) for own in groups for s in own]),
        watcher_deviation=_deviation([s.scores[watcher] or 0.0 for own in seen for s in own]),
    )


def learned_text(sample: Sample) -> str:
    """Return an answer as it may be learned: one that the limit cut ends with its last whole sentence."""
    text = sample.text.strip()
    return whole_sentences(text) if sample.truncated else text


def _listed(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {reason}" for reason, n in reasons.items())


def _reward(sample: Sample) -> float:
    assert sample.reward is not None
    return sample.reward


def _gain(k: int, groups: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Estimate:
    """Return by how much the best of k is above one answer, prompt by prompt; prompts with fewer scored answers are counted."""
    whole = [(by, valued) for by, valued in groups if len(by) >= k]
    too_few = len(groups) - len(whole)
    return mean(
        [best_of(by, valued, k) - best_of(by, valued, 1) for by, valued in whole],
        {f"prompts with fewer than {k} scored answers": too_few} if too_few else {},
    )


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
