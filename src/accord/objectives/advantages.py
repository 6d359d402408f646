"""How much better an answer was than the others to its prompt: what a policy gradient weighs it with.

An answer that a judge failed to score has no reward: leave it out before. A group whose rewards are all the same teaches nothing:
its advantages are exactly 0, whatever rounding its mean would bring, and it is counted.

Shapes: S answers, of which `group_S` says whose prompt each belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.errors import AccordError


@dataclass(frozen=True, slots=True)
class Advantages:
    """One value an answer, [S]; how many groups there are, and in how many of them all rewards are the same."""

    values_S: Tensor
    n_groups: int
    n_flat: int


def grpo_advantages(rewards_S: Tensor, group_S: Tensor, scaled: bool = True) -> Advantages:
    r"""Return (r_i - mean r) / std r, over the answers of one prompt (Shao et al., arXiv 2402.03300, §4.1.2).

    The deviation is the sample's (n - 1 in its denominator). Without `scaled` it is left out, as in Dr. GRPO (Liu et al.,
    arXiv 2503.20783, eq. 2): dividing weighs prompts up on which answers hardly differ, and ends at another model than the
    reward's. An answer stands in its own baseline, which makes the gradient (G - 1) / G times the exact one for groups of G;
    `rloo_advantages` is exact.

    Raises:
        AccordError: shapes differ, or a reward is not finite.
    """
    of = _Groups(rewards_S, group_S)
    centred_S = rewards_S - of.mean(rewards_S)
    if scaled:
        n_S = of.n_G[of.place_S]
        deviation_S = (of.mean(centred_S**2) * n_S / (n_S - 1).clamp_min(1)).sqrt()
        centred_S = centred_S / torch.where(of.flat_S, 1.0, deviation_S)
    return of.advantages(centred_S)


def rloo_advantages(rewards_S: Tensor, group_S: Tensor) -> Advantages:
    r"""Return r_i - mean_{j != i} r_j over the other answers of its prompt (Ahmadian et al., arXiv 2402.14740, §2).

    An answer that is alone, because others could not be scored, has nothing to be compared with: 0, and its group counts as flat.

    Raises:
        AccordError: shapes differ, or a reward is not finite.
    """
    of = _Groups(rewards_S, group_S)
    n_S = of.n_G[of.place_S]
    return of.advantages((rewards_S - of.mean(rewards_S)) * n_S / (n_S - 1).clamp_min(1))


def reinforce_plus_plus_advantages(rewards_S: Tensor, group_S: Tensor, baseline: bool = True) -> Advantages:
    r"""Return advantages in units of the whole batch's deviation (Hu et al., arXiv 2501.03262).

    With `baseline` (the paper's variant for several answers a prompt) (r_i - mean of its group) / std over the batch of these
    differences; without, (r_i - mean r) / std r over the batch, in which an easy prompt's worst answer may beat a hard one's best.
    All deviations are samples' (n - 1).

    Raises:
        AccordError: shapes differ, or a reward is not finite.
    """
    of = _Groups(rewards_S, group_S)
    values_S = torch.where(of.flat_S, 0.0, rewards_S - of.mean(rewards_S)) if baseline else rewards_S
    mean = 0.0 if baseline else values_S.mean()
    if bool((values_S == values_S[0]).all()):
        return Advantages(torch.zeros_like(rewards_S), of.n_groups, of.n_flat)
    result_S = (values_S - mean) / values_S.std()
    return of.advantages(result_S) if baseline else Advantages(result_S, of.n_groups, of.n_flat)


class _Groups:
    """Which answers belong together, and where all of them are worth the same."""

    def __init__(self, rewards_S: Tensor, group_S: Tensor) -> None:
        if rewards_S.shape != group_S.shape or rewards_S.dim() != 1 or not len(rewards_S):
            raise AccordError(
                f"rewards of shape {list(rewards_S.shape)} and groups of shape {list(group_S.shape)}; expected one each an answer"
            )
        if not bool(rewards_S.isfinite().all()):
            row = int((~rewards_S.isfinite()).nonzero()[0])
            raise AccordError(
                f"the reward of answer {row} is {float(rewards_S[row])}; an answer without one is to be left out"
            )
        _, self.place_S = group_S.unique(return_inverse=True)
        self.n_groups = int(self.place_S.max()) + 1
        self.n_G = torch.bincount(self.place_S).to(rewards_S.dtype)
        blank_G = rewards_S.new_zeros(self.n_groups)
        low_G = blank_G.scatter_reduce(0, self.place_S, rewards_S, "amin", include_self=False)
        high_G = blank_G.scatter_reduce(0, self.place_S, rewards_S, "amax", include_self=False)
        self.n_flat = int((low_G == high_G).sum())
        self.flat_S = (low_G == high_G)[self.place_S]

    def mean(self, values_S: Tensor) -> Tensor:
        """Return each answer's group's mean. Shape [S]."""
        return (values_S.new_zeros(self.n_groups).index_add(0, self.place_S, values_S) / self.n_G)[self.place_S]

    def advantages(self, values_S: Tensor) -> Advantages:
        return Advantages(torch.where(self.flat_S, 0.0, values_S), self.n_groups, self.n_flat)
