"""How estimates are told on a terminal: a rate of comparisons, a mean over prompts, a share."""

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


def number(e: Estimate) -> str:
    """Return a mean over prompts as it is printed."""
    if e.value is None:
        return "not measured"
    span = "no interval" if e.low is None or e.high is None else f"[{e.low:.3f}, {e.high:.3f}]"
    unscored = f", {e.n_unscored} answers unscored" if e.n_unscored else ""
    return f"{e.value:.3f} {span} (n={e.n} prompts{unscored})"


def share(e: Estimate) -> str:
    """Return a share as it is printed."""
    if e.value is None:
        return "not measured"
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}] (n={e.n}, {e.n_unscored} unscored)"
