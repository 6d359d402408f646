"""What a recipe would cost: its operations, and the time that they take at a stated share of the machine's matrix peak.

Training is counted as `models.work` does, with all layers and without the adapters' own weights. With N weights in the layers and H
in the head, sampling and scoring need 2N operations for each token that is read, and 2N + 2H for each that is sampled; attention is
left out there. Rows count as the mean of the first `N_READ`, sampled answers as long as they may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from accord.models.chat import ChatFormat
from accord.models.load import load_tokenizer, skeleton_of
from accord.models.peak import matrix_peak
from accord.models.precision import choose_dtype, pick_device
from accord.models.work import Lengths, Sizes, extent_of, sizes_of, training_flop
from accord.types import Comparison

# Of the matrix peak, what training and what sampling and scoring are taken to reach.
TRAINING_SHARE, SAMPLING_SHARE = 0.40, 0.25
N_READ = 200


@dataclass(frozen=True, slots=True)
class Operations:
    """Floating-point operations of training, and of sampling and scoring."""

    training: float = 0.0
    sampling: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.training + other.training, self.sampling + other.sampling)

    def __mul__(self, times: int) -> Operations:
        return Operations(times * self.training, times * self.sampling)


@dataclass(frozen=True, slots=True)
class Rows:
    """A model's sizes, and how many tokens its rows have: a prompt, a written answer, and a sampled one at most."""

    sizes: Sizes
    prompt: int
    answer: int
    sampled: int

    def learned(self, answers: Sequence[int], head: bool = True) -> Operations:
        """Return what a row costs to learn from, of a prompt and answers of so many tokens; a reward model has no `head`."""
        sizes = self.sizes if head else replace(self.sizes, head=0)
        return Operations(training=training_flop(sizes, extent_of([Lengths(self.prompt, tuple(answers))]), "lora"))

    def compared(self) -> Operations:
        """Return what a comparison costs a reward model to learn from."""
        return self.learned((self.answer, self.answer), head=False)

    def answered(self, group: int, judges: int, readings: int = 0) -> Operations:
        """Return what it costs to sample `group` answers to a prompt, have as many reward models as `judges` score each, and read
        the log-probabilities of all of them so many times.
        """
        n, h = 2.0 * self.sizes.trunk, 2.0 * self.sizes.head
        tokens = group * self.sampled
        sampled = n * self.prompt + (n + h) * tokens
        scored = judges * n * (self.prompt + tokens)
        read = readings * (n * (self.prompt + tokens) + h * tokens)
        return Operations(sampling=sampled + scored + read)

    def reinforced(self, group: int, judges: int, passes: int) -> Operations:
        """Return what a prompt costs PPO: what samples and the reference read the answers once each, before they are learned."""
        return self.answered(group, judges, readings=2) + self.learned((self.sampled,) * group) * passes


def rows_of(model: str, comparisons: Sequence[Comparison], max_new_tokens: int) -> Rows:
    """Return the sizes of a model, whose weights are not loaded, and the lengths of comparisons as it reads them.

    Raises:
        ModelError: there is no such model.
    """
    chat = ChatFormat(load_tokenizer(model))
    rendered = [chat.render(c.messages, text) for c in comparisons[:N_READ] for text in (c.chosen, c.rejected)]
    prompt, answer = (
        round(fmean(map(len, ids))) for ids in zip(*((r.prompt, r.answer) for r in rendered), strict=True)
    )
    return Rows(sizes_of(skeleton_of(model)), prompt, answer, max_new_tokens)


def told(operations: Operations, peak: float) -> str:
    """Return, in a line, how much there is to compute, and how long that takes where the peak is so many operations a second."""
    seconds = operations.training / (TRAINING_SHARE * peak) + operations.sampling / (SAMPLING_SHARE * peak)
    time = f"{seconds / 3600:,.1f} hours" if seconds >= 5400 else f"{seconds / 60:,.1f} minutes"
    return (
        f"about {operations.training + operations.sampling:.1e} operations; some {time} here, if training reaches "
        f"{TRAINING_SHARE:.0%} and sampling and scoring {SAMPLING_SHARE:.0%} of the matrix peak ({peak / 1e9:,.0f} GFLOP/s); "
        "red teaming and measuring come on top, and adapters on the upper layers alone (--layers) take less"
    )


def told_here(operations: Operations, precision: str) -> str:
    """Return `told` for this machine, whose peak is measured."""
    device = pick_device()
    return told(operations, matrix_peak(choose_dtype(precision, device), device))  # type: ignore[arg-type]
