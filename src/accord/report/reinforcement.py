"""What is known of a run of reinforcement learning, and what it says in words: above all whether the reward is still true."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from accord.evals.summary import Rates
from accord.stats import clustered_proportion, mean
from accord.stats.correlation import correlation_within
from accord.train.samples import Sample, means_by_prompt, reasons_unscored, repetition
from accord.train.watch import StepLog, turned_down
from accord.types import Estimate

# From so much on a share or a correlation is said first.
MUCH_CUT, MUCH_REPEATED, MUCH_FLAT, MUCH_UNSCORED, STRONG = 0.5, 0.2, 0.5, 0.05, 0.5


@dataclass(frozen=True, slots=True)
class Rewarded:
    """One reward on held-out prompts: its mean before and after, the mean of each prompt's difference, the standard deviation of
    the rewards before, and the difference in units of it (None where there is none).
    """

    before: Estimate
    after: Estimate
    difference: Estimate
    deviation: float
    in_deviations: float | None


@dataclass(frozen=True, slots=True)
class Truth:
    """What was measured on held-out prompts. `kl` is nats an answer from the model before to the model after.

    `answers` holds, before and after, what one watches of answers; `rates` refusals, harmful compliance and capability.
    """

    reward: Rewarded
    watcher: Rewarded
    kl: Estimate
    answers: Mapping[str, Mapping[str, float]]
    rates: Mapping[str, Rates]


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """One run: what was asked, every step's log, the answers of its first and last steps, and held-out measurements if any.

    `reward`, `watcher` and `cost` are names; empty where there is none.
    """

    title: str
    method: str
    model: str
    reward: str
    rewards: Sequence[str]
    watcher: str
    cost: str
    n_prompts: int
    n_steps_asked: int
    steps: Sequence[StepLog]
    ended: str
    seconds: float
    first: Sequence[Sample]
    last: Sequence[Sample]
    prompts: Mapping[str, str]
    truth: Truth | None = None


@dataclass(frozen=True, slots=True)
class Watched:
    """One thing that is watched of answers, at the run's beginning and end."""

    name: str
    first: Estimate
    last: Estimate
    is_share: bool


def watched(run: Reinforcement) -> tuple[Watched, ...]:
    """Return what is watched of the answers of the first and the last steps, prompts as units."""

    def both(name: str, of: Callable[[Sequence[Sample]], Estimate], is_share: bool = False) -> Watched:
        return Watched(name, of(run.first), of(run.last), is_share)

    scores = [name for name in (*run.rewards, run.watcher, run.cost) if name]
    return (
        *(both(name, partial(mean_over_prompts, name=name)) for name in scores),
        both("tokens", lambda own: _mean(own, [float(len(s.ids)) for s in own])),
        both(
            "cut by the limit",
            lambda own: clustered_proportion([s.truncated for s in own], [s.prompt for s in own]),
            True,
        ),
        both("runs of 4 tokens said before", _repeated, True),
    )


def length_against_reward(samples: Sequence[Sample]) -> Estimate:
    """Return how far longer answers to a prompt have the higher reward."""
    there = [s for s in samples if s.reward is not None]
    return correlation_within(
        [float(len(s.ids)) for s in there], [s.reward or 0.0 for s in there], [s.prompt for s in there]
    )


def warnings(run: Reinforcement) -> tuple[str, ...]:
    """Return what must be read first, a sentence each."""
    lines: list[str] = []
    if run.ended:
        lines.append(f"The run ended after {len(run.steps)} of {run.n_steps_asked} steps: {run.ended}.")
    last = run.steps[-1].metrics if run.steps else {}
    if last.get("unscored", 0) > MUCH_UNSCORED:
        lines.append(
            f"In the last step {last['unscored']:.0%} of the answers could not be scored; nothing was learned from them."
        )
    if last.get("truncated", 0) > MUCH_CUT:
        lines.append(
            f"In the last step {last['truncated']:.0%} of the answers were cut by the limit of tokens: their rewards are those of "
            "unfinished answers."
        )
    if last.get("repetition", 0) > MUCH_REPEATED:
        lines.append(
            f"The model repeats itself: {last['repetition']:.0%} of its runs of four tokens it has said before in the same answer."
        )
    if last.get("flat_groups", 0) > MUCH_FLAT:
        lines.append(
            f"In the last step all answers to {last['flat_groups']:.0%} of the prompts were worth the same, which taught nothing."
        )
    r = length_against_reward(run.last)
    if r.low is not None and r.high is not None and r.value is not None and (r.low > STRONG or r.high < -STRONG):
        lines.append(
            f"{'Longer' if r.value > 0 else 'Shorter'} answers have the higher reward (r = {r.value:.2f} within prompts, "
            f"{r.low:.2f} to {r.high:.2f}): part of what is learned is length."
        )
    if run.watcher and turned_down(run.steps, f"score/{run.watcher}"):
        lines.append(
            "The watcher has turned down while the reward went on rising: from there on the model learned to please this reward "
            "model alone."
        )
    return tuple(lines)


def headline(run: Reinforcement) -> str:
    """Return in one sentence what became of the reward."""
    if run.truth is not None:
        return told(run.truth)
    if not run.rewards or not run.steps:
        return "Nothing was learned."
    # Of several rewards their combination is not told: Llama 2's has a mean of 0 at each step.
    moved = []
    for name in run.rewards:
        first, last = (mean_over_prompts(own, name=name) for own in (run.first, run.last))
        if first.value is None or last.value is None:
            return "No answer at the run's beginning or end could be scored."
        moved.append(
            f"{'the reward' if len(run.rewards) == 1 else name} went from {first.value:.3f} to {last.value:.3f}"
        )
    beside = (
        "; no second reward model watched, so that nothing says whether the reward is still true"
        if not run.watcher
        else ""
    )
    return f"On the prompts that it trained on {' and '.join(moved)}{_spent(run)}{beside}."


def _spent(run: Reinforcement) -> str:
    nats = run.steps[-1].metrics.get("rl/kl")
    return "" if nats is None else f", at {nats:.1f} nats an answer from the model that it started as"


def told(truth: Truth) -> str:
    """Return in words whether the reward is still true, from held-out prompts."""
    r, w = truth.reward.difference, truth.watcher.difference
    if r.low is None or w.low is None:
        return "Whether the reward is still true cannot be said: too few prompts were scored."
    if r.low <= 0:
        return "The reward is not shown to have risen."
    if w.low > 0:
        return "The reward rose, and so did the watcher's, which never trained: what was learned is not this reward's alone."
    return (
        "The reward rose and the watcher's is not shown to have: part of what was learned may please this reward model alone. Read "
        "the answers, and take fewer steps."
    )


def mean_over_prompts(samples: Sequence[Sample], name: str) -> Estimate:
    """Return the mean of one score, prompts as units, and how many answers have none, by why."""
    return _mean(samples, [s.scores[name] for s in samples], reasons_unscored(samples, name))


def _repeated(samples: Sequence[Sample]) -> Estimate:
    return _mean(samples, [repetition(s.ids) for s in samples], bounds=(0.0, 1.0))


def _mean(
    samples: Sequence[Sample],
    values: Sequence[float | None],
    unscored: Mapping[str, int] | None = None,
    bounds: tuple[float, float] | None = None,
) -> Estimate:
    """Return the mean over prompts of their answers' mean: the answers of one prompt are not independent."""
    return mean(list(means_by_prompt(samples, values).values()), unscored, bounds=bounds)
