"""How good each token of what was sampled was: from rewards, costs and the penalty to advantages, by group or by a value model.

Shapes, of one prompt's answers: S answers, N tokens, all answers' in order. B answers of all prompts, T tokens of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.objectives.advantages import Advantages
from accord.objectives.gae import gae, whitened
from accord.objectives.kl import kl_estimate
from accord.train.logps import Said
from accord.train.sampled import Weighed


@dataclass(frozen=True, slots=True)
class Estimates:
    """GAE's discount and decay."""

    discount: float = 1.0
    decay: float = 0.95


@dataclass(frozen=True, slots=True)
class Answers:
    """One prompt's answers as they were sampled: log-probabilities [N], and how many tokens each has."""

    logps: Tensor
    lengths: Sequence[int]


def weigh(
    advantages: Callable[[Tensor, Tensor], Advantages] | None,
    rewards: Sequence[Tensor],
    sampled: Sequence[Answers],
    old: Sequence[Said] | None,
    reference: Sequence[Said] | None,
    kl: float,
    estimates: Estimates,
) -> list[Weighed]:
    """Return what is learned of each prompt's answers, whose `rewards` have shape [S].

    `kl` weighs the penalty that is taken from the rewards; 0 where it stands in the loss. It needs what the learner said (`old`)
    and what the reference says.
    """
    penalties: list[Tensor] | None = None
    if kl:
        assert old is not None
        assert reference is not None
        penalties = [kl * kl_estimate(o.logps, r.logps, "k1") for o, r in zip(old, reference, strict=True)]
    lengths = [s.lengths for s in sampled]
    returns: list[Tensor | None] = [None] * len(rewards)
    if advantages is None:
        assert old is not None
        weights, found = _by_value(rewards, lengths, old, penalties, estimates)
        returns = list(found)
    else:
        weights = _by_group(advantages, rewards, lengths, penalties)
    return [
        Weighed(
            advantages=weight,
            sampled_logps=s.logps,
            old_logps=None if old is None else old[i].logps,
            ref_logps=None if reference is None else reference[i].logps,
            ref_states=None if reference is None else reference[i].states,
            returns=returns[i],
            old_values=None if old is None else old[i].values,
        )
        for i, (weight, s) in enumerate(zip(weights, sampled, strict=True))
    ]


def _by_group(
    advantages: Callable[[Tensor, Tensor], Advantages],
    rewards: Sequence[Tensor],
    lengths: Sequence[Sequence[int]],
    penalties: Sequence[Tensor] | None,
) -> list[Tensor]:
    """Return an answer's advantage at each of its tokens, by prompt; an answer's penalties are taken from its reward."""
    totals = list(rewards)
    if penalties is not None:
        spent = [
            torch.stack([part.sum() for part in p.split(list(n))]) for p, n in zip(penalties, lengths, strict=True)
        ]
        totals = [r - s for r, s in zip(rewards, spent, strict=True)]
    group_S = torch.arange(len(totals)).repeat_interleave(torch.tensor([len(r) for r in totals]))
    values_S = advantages(torch.cat(totals), group_S).values_S
    sizes = torch.tensor([n for own in lengths for n in own])
    return list(values_S.repeat_interleave(sizes).split([sum(own) for own in lengths]))


def _by_value(
    rewards: Sequence[Tensor],
    lengths: Sequence[Sequence[int]],
    old: Sequence[Said],
    penalties: Sequence[Tensor] | None,
    estimates: Estimates,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return whitened advantages and returns, by prompt, from rewards at each answer's end and penalties at each token."""
    sizes = torch.tensor([n for own in lengths for n in own])
    mask_BT = torch.arange(int(sizes.max()))[None] < sizes[:, None]

    def laid(parts: Sequence[Tensor]) -> Tensor:
        return torch.zeros(mask_BT.shape).masked_scatter(mask_BT, torch.cat(list(parts)))

    told_BT = torch.zeros(mask_BT.shape) if penalties is None else -laid(penalties)
    told_BT[torch.arange(len(sizes)), sizes - 1] += torch.cat(list(rewards))
    values_BT = laid([o.values for o in old if o.values is not None])
    found = gae(told_BT, values_BT, mask_BT, estimates.discount, estimates.decay)
    by_prompt = [sum(own) for own in lengths]
    advantages = whitened(found.advantages_BT, mask_BT)[mask_BT].split(by_prompt)
    return list(advantages), list(found.returns_BT[mask_BT].split(by_prompt))
