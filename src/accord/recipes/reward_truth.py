"""Whether a reward is still true after it was learned from: by itself, by a model that never trained, and by what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean, stdev, variance

from accord.data.jsonl import read_rows, write_rows
from accord.data.records import read_choices, read_prompts
from accord.errors import DataError
from accord.evals.runner import Setting, answer_choices, attempt_prompts
from accord.evals.summary import ChoiceResult, Condition, Rates, summarise
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.reward import load_reward_model
from accord.models.sampling import Sampling
from accord.models.tree import Tree, head_weight
from accord.policy import load_policy
from accord.recipes.material import first_of_each_kind
from accord.report.reinforcement import Rewarded, Truth
from accord.scorers.as_reward import ByNumber, Weighted
from accord.scorers.refusal import RefusalScorer
from accord.scorers.reward import RewardScorer
from accord.starter import capability_path, policy_path, verify_path
from accord.stats import mean
from accord.train.collect import Asked, Judges, Source, collect
from accord.train.logps import said_by
from accord.train.samples import Sample, means_by_prompt, measured_of, read_samples, reasons_unscored, write_samples
from accord.train.states import NOTHING_FROZEN
from accord.types import Comparison, Estimate, Progress, Prompt

# Answers to each held-out prompt, of either model.
ANSWERS = 2
# Training prompts on which a reward's spread is measured.
N_SCALED = 64
ANSWER_TOKENS = 32
CHOICES = "choices.jsonl"


def measure_truth(
    before: LoadedModel,
    after: LoadedModel,
    rewards: tuple[Path, Path],
    held_out: Sequence[Comparison],
    max_new_tokens: int,
    seed: int,
    limit: int,
    folder: Path,
    progress: Progress,
) -> Truth:
    """Sample both models' answers to held-out prompts, and score them by the reward model and by the watcher (`rewards`)."""
    reward, watcher = (ByNumber(RewardScorer(load_reward_model(str(path)), "reward")) for path in rewards)
    judges = Judges(Weighted(((1.0, reward),)), watcher=watcher)
    sampling = Sampling(max_new_tokens, 1.0, seed)
    chat = ChatFormat(before.tokenizer)
    asked = asked_of(chat, held_out)
    samples: dict[str, list[Sample]] = {}
    for name, loaded in (("before", before), ("after", after)):
        progress.say(f"held-out prompts, {name}")
        source = Source(loaded.model, chat.end_ids, chat.decode)
        samples[name] = once(
            folder / f"answers-{name}.jsonl", partial(collect, source, judges, asked, ANSWERS, sampling)
        )
    return Truth(
        reward=compared(samples["before"], samples["after"], reward.name),
        watcher=compared(samples["before"], samples["after"], watcher.name),
        kl=_divergence(before, after, asked, samples["after"]),
        answers={name: measured_of(own) for name, own in samples.items()},
        rates={
            name: rates_of(loaded, name, seed, limit, folder / f"verify-{name}", progress)
            for name, loaded in (("before", before), ("after", after))
        },
    )


def reward_deviation(
    loaded: LoadedModel, reward: Path, comparisons: Sequence[Comparison], max_new_tokens: int, seed: int, path: Path
) -> float:
    """Return the standard deviation of the rewards of a model's own answers to one prompt, over comparisons' prompts.

    What differs between prompts is left out: no answer can change it. `path` keeps the answers.

    Raises:
        DataError: the reward model tells no answers apart, so that there is nothing to learn from it.
    """

    def sampled() -> list[Sample]:
        judges = Judges(Weighted(((1.0, ByNumber(RewardScorer(load_reward_model(str(reward)), "reward"))),)))
        chat = ChatFormat(loaded.tokenizer)
        source = Source(loaded.model, chat.end_ids, chat.decode)
        return collect(source, judges, asked_of(chat, comparisons), ANSWERS, Sampling(max_new_tokens, 1.0, seed))

    samples = once(path, sampled)
    by_prompt: dict[str, list[float]] = {}
    for s in samples:
        if s.reward is not None:
            by_prompt.setdefault(s.prompt, []).append(s.reward)
    several = [variance(own) for own in by_prompt.values() if len(own) > 1]
    deviation = math.sqrt(fmean(several)) if several else 0.0
    if not deviation:
        raise DataError(
            f"{reward} gives the answers to each of {len(by_prompt)} prompts the same reward: there is nothing to learn from it"
        )
    return deviation


def asked_of(chat: ChatFormat, comparisons: Sequence[Comparison]) -> list[Asked]:
    """Return comparisons' prompts as a model reads them."""
    prompts = [Prompt(c.id, c.messages, "ordinary", c.clause, c.family, "verify") for c in comparisons]
    return [Asked(p, chat.prompt(p.messages)) for p in prompts]


def once(path: Path, make: Callable[[], list[Sample]]) -> list[Sample]:
    """Return the samples of a file, which are made where it is not there yet."""
    if not path.exists():
        write_samples(path, make())
    return read_samples(path)


def compared(before: Sequence[Sample], after: Sequence[Sample], name: str) -> Rewarded:
    """Return what one reward says; prompts are the units: the answers to one prompt are not independent."""
    was, now = (means_by_prompt(own, [s.scores[name] for s in own]) for own in (before, after))
    both = [p for p in was if p in now]
    scores = [value for s in before if (value := s.scores[name]) is not None]
    deviation = stdev(scores)
    difference = mean([now[p] - was[p] for p in both], reasons_unscored((*before, *after), name))
    gain = None if difference.value is None or deviation == 0 else difference.value / deviation
    return Rewarded(
        mean(list(was.values()), reasons_unscored(before, name)),
        mean(list(now.values()), reasons_unscored(after, name)),
        difference,
        deviation,
        gain,
    )


def _divergence(before: LoadedModel, after: LoadedModel, asked: Sequence[Asked], samples: Sequence[Sample]) -> Estimate:
    """Return KL(after || before) an answer, in nats, from the answers of the model after; prompts are the units."""
    ids = {a.prompt.id: a.ids for a in asked}
    by_prompt: dict[str, list[Sample]] = {}
    for s in samples:
        by_prompt.setdefault(s.prompt, []).append(s)
    trees = [Tree(ids[prompt], tuple(s.ids for s in own)) for prompt, own in by_prompt.items()]
    said = []
    for loaded in (before, after):
        with packed(loaded.model):
            said.append(said_by(loaded.model, trees, NOTHING_FROZEN, Projection(head_weight(loaded.model))))
    per_answer = [
        float((now.logps - was.logps).sum()) / len(tree.answers) for was, now, tree in zip(*said, trees, strict=True)
    ]
    return mean(per_answer)


def rates_of(loaded: LoadedModel, name: str, seed: int, limit: int, folder: Path, progress: Progress) -> Rates:
    """Return refusals, harmful compliance and capability on the starter's `verify` sets; what is in `folder` is not asked again."""
    prompts, choices = list(read_prompts(verify_path()).prompts), list(read_choices(capability_path()))
    if limit:
        prompts, choices = first_of_each_kind(prompts, lambda p: p.kind, limit), choices[:limit]
    chat, setting = ChatFormat(loaded.tokenizer), Setting(name)
    attempts = attempt_prompts(
        loaded.model, chat, prompts, setting, Sampling(ANSWER_TOKENS, 0.0, seed), RefusalScorer(), folder, progress
    )
    path = folder / CHOICES
    if not path.exists():
        answers = answer_choices(loaded.model, chat, choices, progress, f"{name}: capability")
        write_rows(path, [asdict(a) for a in answers])
    results = tuple(ChoiceResult(**row.data) for row in read_rows(path))
    return summarise(Condition(name, attempts, results), load_policy(policy_path()))
