"""What one watches while a model trains: a line for the terminal, and warnings that say what is seen and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

# Steps that a warning looks back over, and that must have been made before anything is said.
SPAN = 20
JUMP = 10.0
# Steps whose gradients a step is held against.
LOOKED_BACK = 200
# In the terminal's line, in this order, by the last part of a metric's name.
_NOTED = {
    "accuracy": "accuracy",
    "margin": "margin",
    "chosen_reward": "chosen",
    "rejected_reward": "rejected",
    "desirable_reward": "desirable",
    "undesirable_reward": "undesirable",
    "baseline": "baseline",
    "nll": "nll",
    "kl": "KL",
    "entropy": "entropy",
    "gradient_norm": "gradient",
}


@dataclass(frozen=True, slots=True)
class StepLog:
    """What one optimiser step reports: its loss, the mean of each metric over the step's examples by group, the gradient's norm."""

    step: int
    loss: float
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """What some batches come to: tokens, positions computed, how many of those are no padding, floating-point operations needed."""

    tokens: int = 0
    computed: int = 0
    useful: int = 0
    flop: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.tokens + other.tokens,
            self.computed + other.computed,
            self.useful + other.useful,
            self.flop + other.flop,
        )


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a run goes, of which `peak_flop_per_s` is the limit, and how much of what it computes is needed."""

    work: Work
    seconds: float
    peak_flop_per_s: float

    def measured(self) -> dict[str, float]:
        """Return tokens a second, the share of the computed positions that are no padding, and that of the matrix peak."""
        if not self.work.computed or self.seconds <= 0:
            return {}
        return {
            "tokens_per_s": self.work.tokens / self.seconds,
            "useful_positions": self.work.useful / self.work.computed,
            "share_of_matrix_peak": self.work.flop / self.seconds / self.peak_flop_per_s,
        }

    def note(self) -> str:
        """Return the same as words; none where nothing was done."""
        by_name = self.measured()
        if not by_name:
            return ""
        return (
            f"{by_name['tokens_per_s']:.0f} tokens/s, {by_name['useful_positions']:.1%} of the computed positions useful, "
            f"{by_name['share_of_matrix_peak']:.0%} of the matrix peak"
        )


def note_of(log: StepLog) -> str:
    """Return a step as a few words."""
    words = []
    for name, label in _NOTED.items():
        found = {key: value for key, value in log.metrics.items() if key.rsplit("/", 1)[-1] == name}
        for key, value in sorted(found.items()):
            # Two losses of one step may each have a KL.
            of = f"{key.rpartition('/')[0]} " if len(found) > 1 else ""
            words.append(f"{of}{label} {value:.3g}")
    return ", ".join([f"loss {log.loss:.3f}", *words])


def warnings_of(logs: Sequence[StepLog]) -> dict[str, str]:
    """Return by code what should be said of a run so far. What compares steps waits until there are enough of them."""
    if not logs:
        return {}
    found: dict[str, str] = {}
    norm = logs[-1].metrics.get("gradient_norm", math.nan)
    if not math.isfinite(logs[-1].loss) or not math.isfinite(norm):
        found["not-finite"] = (
            "the loss or its gradient is not finite: the step was skipped, and ten in a row end the run"
        )
    if len(logs) < SPAN:
        return found
    first, last = logs[:SPAN], logs[-SPAN:]
    accuracy = _means(last, "accuracy")
    if accuracy and fmean(accuracy) > 0.99:
        found["too-easy"] = (
            f"accuracy is {fmean(accuracy):.0%} over {SPAN} steps: the pairs are told apart by something simple; "
            "`accord data check` shows whether it is their length"
        )
    norms = [n for log in logs[-LOOKED_BACK:-1] if math.isfinite(n := log.metrics.get("gradient_norm", math.nan))]
    if norms and norm > JUMP * median(norms):
        found["gradient-jump"] = (
            f"the gradient's norm is {norm:.3g}, and half of the steps before were below {median(norms):.3g}; it is clipped, but "
            "if it goes on, lower the rate"
        )
    if len(logs) < 2 * SPAN:
        return found
    before, now = (_means(part, "chosen_reward") for part in (first, last))
    margins = [fmean(_means(part, "margin") or [0.0]) for part in (first, last)]
    if before and now and margins[1] > margins[0] and _fell(before, now):
        found["displacement"] = (
            f"the chosen answers become less likely too (reward {fmean(before):.2f} over the first {SPAN} steps, {fmean(now):.2f} "
            "over the last), while the margin grows: the model leaves both answers for something else; try dpop, a lower rate or "
            "a higher beta"
        )
    losses = [fmean(x.loss for x in part) for part in (first, last)]
    if losses[1] > 2 * abs(losses[0]):
        found["diverges"] = (
            f"the loss has risen from {losses[0]:.3f} to {losses[1]:.3f} (means of {SPAN} steps); lower the rate"
        )
    return found


def _means(logs: Sequence[StepLog], name: str) -> list[float]:
    """Return a metric of each step. A reward model's scores are left out: they say nothing of how likely an answer is."""
    return [
        v
        for log in logs
        for key, v in log.metrics.items()
        if key.rsplit("/", 1)[-1] == name and (name == "accuracy" or not key.startswith("reward/"))
    ]


# Standard errors by which the watcher's mean must fall.
TURNED = 4


def _fell(before: Sequence[float], now: Sequence[float], errors: float = 2) -> bool:
    """Whether the mean is lower by more than so many standard errors: steps hold other rows, and differ by that alone."""
    error = math.sqrt(stdev(before) ** 2 / len(before) + stdev(now) ** 2 / len(now))
    return fmean(now) < fmean(before) - errors * error


def turned_down(logs: Sequence[StepLog], watcher: str, span: int = 10) -> bool:
    """Whether what only watches fell below its best while the reward did not: what is learned pleases the reward alone.

    The last quarter of the steps is compared with the best of those before it, `span` steps at least. A fall is one of more than
    four standard errors: this is asked at every step, and the best of several quarters is high by luck. Of 300 simulated runs of 60
    steps and 120 of 200 whose watcher never changes, 1 and 3 % were ended; at two errors, with any window as the best, it was 69
    and 100 %.
    """
    both = [(m[watcher], m["reward"]) for log in logs if watcher in (m := log.metrics) and "reward" in m]
    span = max(span, len(both) // 4)
    if len(both) < 2 * span:
        return False
    ends = range(len(both), span - 1, -span)
    last, *before = [tuple(zip(*both[end - span : end], strict=True)) for end in ends]
    best = max(before, key=lambda window: fmean(window[0]))
    return _fell(best[0], last[0], TURNED) and not _fell(best[1], last[1])
