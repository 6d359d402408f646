"""A limit on the mean cost, held by a multiplier that grows while it is broken (Safe RLHF).

Dai et al., arXiv 2310.12773, §3.3 and appendix B: the model maximises, and lambda minimises, reward - lambda (cost - limit). Lambda
is learned in its logarithm, so that it stays positive; the combined advantage is divided by 1 + lambda, so that its size does not
grow with lambda.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from accord.errors import AccordError


@dataclass(frozen=True, slots=True)
class Multiplier:
    """The multiplier's logarithm, and the last batches' mean costs; all of it belongs into a checkpoint.

    `limit` is what the mean cost may be, `window` over how many batches it is taken, `rate` how fast the multiplier follows, `most`
    where it ends: without an end a limit that cannot be met leaves nothing of the reward.
    """

    limit: float
    log_lambda: float = 0.0
    costs: tuple[float, ...] = ()
    window: int = 8
    rate: float = 0.1
    most: float = 100.0

    @property
    def value(self) -> float:
        """The multiplier, lambda."""
        return math.exp(self.log_lambda)

    def updated(self, mean_cost: float) -> Multiplier:
        r"""Return the multiplier after a batch of this mean cost: \log\lambda + \eta \lambda (mean over the window - limit).

        Raises:
            AccordError: the cost is not finite; a batch without a cost must not move the multiplier.
        """
        if not math.isfinite(mean_cost):
            raise AccordError(f"a batch's mean cost is {mean_cost}: it cannot move the multiplier")
        costs = (*self.costs, mean_cost)[-self.window :]
        moved = self.log_lambda + self.rate * self.value * (sum(costs) / len(costs) - self.limit)
        return replace(self, costs=costs, log_lambda=min(moved, math.log(self.most)))

    def combined(self, rewards: Tensor, costs: Tensor) -> Tensor:
        r"""Return (r - \lambda c) / (1 + \lambda); of rewards or of advantages, any shape."""
        return (rewards - self.value * costs) / (1 + self.value)
