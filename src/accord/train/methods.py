"""Three ways to learn from scored answers: reinforce them all, imitate the best, or prefer the best to the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor, nn

from accord.models.tree import Tree
from accord.objectives.advantages import Advantages
from accord.objectives.pairs import Pairs
from accord.objectives.policy_gradient import KLPlace, Samples
from accord.objectives.reduction import Losses
from accord.train.imitation import Learned
from accord.train.learner import Group, Learner, Lesson, OnlineSettings
from accord.train.logps import Said, said_by
from accord.train.preferences import Preferred
from accord.train.sampled import Reinforced
from accord.train.samples import Sample
from accord.train.states import FrozenStates, frozen_in_memory
from accord.train.weigh import Answers, weigh


@dataclass(frozen=True, slots=True)
class Reinforce:
    """An objective of reinforcement learning with its options filled in, and how answers are weighed.

    `advantages` None is by a value model. The penalty for leaving the reference stands where `kl_in` says. Without `has_ratio` to
    the model that sampled an answer is learned once.
    """

    name: str
    loss: Callable[[Samples], Losses]
    advantages: Callable[[Tensor, Tensor], Advantages] | None
    kl_in: KLPlace
    has_ratio: bool = True

    @property
    def needs_values(self) -> bool:
        """Whether a value model learns beside."""
        return self.advantages is None

    def lesson(self, learner: Learner, groups: Sequence[Group], settings: OnlineSettings) -> Lesson:
        """Weigh every answer against its group, or token by token."""
        trees = [Tree(g.asked.ids, tuple(s.ids for s in g.samples)) for g in groups]
        states = frozen_in_memory(learner.model, trees, learner.first_layer)
        if self.needs_values and learner.value_head is not None:
            _begin(learner.value_head, groups)
        old, reference = self._said(learner, trees, states, settings)
        penalties = settings.penalties
        in_reward = penalties.kl if self.kl_in == "reward" else 0.0
        answers = [
            Answers(torch.tensor([x for s in g.samples for x in s.logps]), [len(s.ids) for s in g.samples])
            for g in groups
        ]
        weighed = weigh(
            self.advantages, [g.rewards for g in groups], answers, old, reference, in_reward, settings.estimates
        )
        part = Reinforced(
            trees,
            weighed,
            learner.head,
            self.loss,
            # A penalty that is in the reward is not in the loss.
            replace(penalties, kl=0.0) if in_reward else penalties,
            learner.head if learner.reference_head is None else learner.reference_head,
            learner.value_head if self.needs_values else None,
            settings.sampling.temperature,
        )
        # A value model tells apart what a group does not.
        measured = {} if self.needs_values else {"flat_groups": fmean(g.is_flat for g in groups)}
        return Lesson(trees, states, part, measured)

    def _said(
        self, learner: Learner, trees: Sequence[Tree], states: FrozenStates, settings: OnlineSettings
    ) -> tuple[list[Said] | None, list[Said] | None]:
        """Return what the learner says of its answers before it learns from them, and what the reference says, where needed."""
        kl = settings.penalties.kl
        once = settings.passes == 1 and len(trees) <= settings.prompts_per_update
        heat = settings.sampling.temperature
        old = reference = None
        if self.needs_values or not once or (self.kl_in == "reward" and kl):
            old = said_by(learner.model, trees, states, learner.head, learner.value_head, temperature=heat)
        if kl or settings.kl_budget:
            whole = self.kl_in == "loss" and settings.penalties.estimator is None
            with learner.reference():
                reference = said_by(learner.model, trees, states, learner.head, with_states=whole, temperature=heat)
        return old, reference


@dataclass(frozen=True, slots=True)
class Imitate:
    """Learn each prompt's best answer as if it had been written: rejection-sampling fine-tuning.

    Touvron et al., arXiv 2307.09288, §3.2.3. A prompt whose answers are all worth the same is left out: none of them is best.
    """

    name: str = "rejection"
    needs_values: bool = False

    def lesson(self, learner: Learner, groups: Sequence[Group], settings: OnlineSettings) -> Lesson:
        """Return the best answers."""
        told = [g for g in groups if not g.is_flat]
        trees = [Tree(g.asked.ids, (_best(g).ids,)) for g in told]
        states = frozen_in_memory(learner.model, trees, learner.first_layer)
        measured = _apart(groups, told)
        return Lesson(trees, states, Learned(trees, learner.head, name=self.name), measured)


@dataclass(frozen=True, slots=True)
class Prefer:
    """Prefer each prompt's best answer to its worst, under an objective on pairs: online DPO (Guo et al., arXiv 2402.04792).

    A prompt whose answers are all worth the same is left out.
    """

    name: str
    loss: Callable[[Pairs], Losses]
    needs_reference: bool
    needs_values: bool = False

    def lesson(self, learner: Learner, groups: Sequence[Group], settings: OnlineSettings) -> Lesson:
        """Return pairs of best and worst."""
        told = [g for g in groups if not g.is_flat]
        trees = [Tree(g.asked.ids, (_best(g).ids, _worst(g).ids)) for g in told]
        states = frozen_in_memory(learner.model, trees, learner.first_layer)
        ref_logps = None
        if self.needs_reference and trees:
            with learner.reference():
                said = said_by(learner.model, trees, states, learner.head)
            ref_logps = torch.stack(
                [
                    torch.stack([part.sum() for part in x.logps.split([len(a) for a in tree.answers])])
                    for x, tree in zip(said, trees, strict=True)
                ]
            )
        part = Preferred(learner.head, self.loss, ref_logps, name=self.name)
        return Lesson(trees, states, part, _apart(groups, told))


@torch.no_grad()
def _begin(value_head: nn.Linear, groups: Sequence[Group]) -> None:
    """Let a value model that has learned nothing yet expect the mean of its first rewards.

    Expecting 0 of rewards around -8, it would make every advantage the distance to the answer's end, and its own error, many times
    any difference between answers, would be what the first steps learn. InstructGPT shifts its rewards for the same reason
    (arXiv 2203.02155, §3.5).
    """
    if not value_head.weight.any() and not value_head.bias.any():
        value_head.bias.fill_(torch.cat([g.rewards for g in groups]).mean())


def _best(group: Group) -> Sample:
    return group.samples[int(group.rewards.argmax())]


def _worst(group: Group) -> Sample:
    return group.samples[int(group.rewards.argmin())]


def _apart(groups: Sequence[Group], told: Sequence[Group]) -> dict[str, float]:
    """Return how many prompts told their answers apart, and what the best of them and the worst are worth."""
    measured = {"flat_groups": 1 - len(told) / len(groups)}
    if told:
        measured["best_reward"] = fmean(float(g.rewards.max()) for g in told)
        measured["worst_reward"] = fmean(float(g.rewards.min()) for g in told)
    return measured
