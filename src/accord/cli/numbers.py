"""How a rate of comparisons is told on a terminal."""

from __future__ import annotations

from accord.types import Estimate


def told(estimate: Estimate) -> str:
    """Return a rate with its interval, what it rests on, and the ties left out of it."""
    if estimate.value is None:
        return f"not measured (n=0, {estimate.n_unscored} ties)"
    return (
        f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}] (n={estimate.n}, {estimate.n_unscored} ties; "
        f"{estimate.method})"
    )
