"""What the online loop and its methods share: the model that learns, the dials, a prompt's answers, what a step learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from accord.models.head import Head
from accord.models.sampling import Sampling
from accord.models.tree import Tree
from accord.train.collect import Asked
from accord.train.mixture import Part
from accord.train.offline import TrainSettings
from accord.train.sampled import Penalties
from accord.train.samples import Sample
from accord.train.states import FrozenStates
from accord.train.weigh import Estimates


@dataclass(frozen=True, slots=True)
class OnlineSettings:
    """The dials of the loop.

    `kl` weighs the divergence from the reference, as `estimator` takes it (None: over the whole vocabulary). Of a step's prompts
    `prompts_per_update` are taken up in one optimiser step, all of them `passes` times. `kl_budget` is how many nats an answer may
    be from the reference, on average over a step, before the run ends (0: no limit). `cut_penalty` is taken from the reward of an
    answer that the limit cut: it is scored as if it had ended there. `ahead` (0 or 1) lets servers sample a step's
    answers while the step before is learned, so that they are of the version before.
    """

    steps: int = 50
    prompts_per_step: int = 16
    group: int = 8
    prompts_per_update: int = 16
    passes: int = 1
    sampling: Sampling = field(default_factory=lambda: Sampling(max_new_tokens=64, temperature=1.0))
    penalties: Penalties = field(default_factory=lambda: Penalties(kl=0.05))
    estimates: Estimates = field(default_factory=Estimates)
    kl_budget: float = 0.0
    cut_penalty: float = 0.0
    ahead: int = 0
    loop: TrainSettings = field(default_factory=lambda: TrainSettings(learning_rate=1e-4, weight_decay=0.0))


@dataclass(frozen=True, slots=True)
class Learner:
    """The model that learns, and its reference: `reference()` is a context in which the same model says what the reference does.

    `reference_head` is the reference's where the head is trained, too (None: the same).
    """

    model: nn.Module
    head: Head
    reference: Callable[[], Any]
    end_ids: frozenset[int]
    decode: Callable[[Sequence[int]], str]
    first_layer: int = 0
    value_head: nn.Linear | None = None
    reference_head: Head | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt, its answers that have a reward, and what is learned from: their rewards, costs taken off. Shape [S]."""

    asked: Asked
    samples: tuple[Sample, ...]
    rewards: Tensor

    @property
    def is_flat(self) -> bool:
        """Whether all answers are worth the same."""
        return bool((self.rewards == self.rewards[0]).all())


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a step learns: rows (none where there is nothing to learn), their loss, and what was measured while they were made."""

    trees: Sequence[Tree]
    states: FrozenStates
    part: Part
    measured: Mapping[str, float]


class Method(Protocol):
    """Makes a step's lesson of what was sampled."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def needs_values(self) -> bool:
        """Whether a value model learns beside."""

    def lesson(self, learner: Learner, groups: Sequence[Group], settings: OnlineSettings) -> Lesson:
        """Return what is learned of a step's answers."""
