"""What one watches while a model trains: a line for the terminal, and warnings that say what is seen and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

# Steps that a warning looks back over, and that must have been made before anything is said.
SPAN = 20
JUMP = 10.0
# In the terminal's line, in this order, by the last part of a metric's name.
_NOTED = {
    "accuracy": "accuracy",
    "chosen_reward": "chosen",
    "rejected_reward": "rejected",
    "desirable_reward": "desirable",
    "undesirable_reward": "undesirable",
    "nll": "nll",
    "kl": "KL",
}


@dataclass(frozen=True, slots=True)
class StepLog:
    """What one optimiser step reports: its loss, the mean of each metric over the step's examples by group, the gradient's norm."""

    step: int
    loss: float
    metrics: Mapping[str, float]


def note_of(log: StepLog) -> str:
    """Return a step as a few words."""
    by_name = {name.rsplit("/", 1)[-1]: value for name, value in log.metrics.items()}
    words = [f"{label} {by_name[name]:.3g}" for name, label in _NOTED.items() if name in by_name]
    return ", ".join([f"loss {log.loss:.3f}", *words])


def warnings_of(logs: Sequence[StepLog]) -> dict[str, str]:
    """Return by code what should be said of a run so far; nothing before `SPAN` steps."""
    if len(logs) < SPAN:
        return {}
    last = logs[-SPAN:]
    found: dict[str, str] = {}
    chosen, rejected, accuracy = (_mean(last, name) for name in ("chosen_reward", "rejected_reward", "accuracy"))
    if chosen is not None and rejected is not None and chosen < 0 and rejected < chosen:
        found["displacement"] = (
            f"the chosen answers' log-probability falls too (reward {chosen:.2f} over {SPAN} steps, rejected {rejected:.2f}): the "
            "model leaves both answers for something else; try dpop, a lower rate or a higher beta"
        )
    if accuracy is not None and accuracy > 0.99:
        found["too-easy"] = (
            f"accuracy is {accuracy:.0%} over {SPAN} steps: the pairs are told apart by something simple; "
            "`accord data check` shows whether it is their length"
        )
    norms = [n for log in logs[:-1] if math.isfinite(n := log.metrics.get("gradient_norm", math.nan))]
    norm = logs[-1].metrics.get("gradient_norm", math.nan)
    if norms and norm > JUMP * median(norms):
        found["gradient-jump"] = (
            f"the gradient's norm is {norm:.3g}, and half of the steps so far were below {median(norms):.3g}; it is clipped, but "
            "if it goes on, lower the rate"
        )
    if not math.isfinite(logs[-1].loss) or not math.isfinite(norm):
        found["not-finite"] = (
            "the loss or its gradient is not finite: the step was skipped, and ten in a row end the run"
        )
    first_loss, last_loss = (fmean(x.loss for x in part) for part in (logs[:SPAN], last))
    if len(logs) >= 2 * SPAN and last_loss > 2 * abs(first_loss):
        found["diverges"] = (
            f"the loss has risen from {first_loss:.3f} to {last_loss:.3f} (means of {SPAN} steps); lower the rate"
        )
    return found


def _mean(logs: Sequence[StepLog], name: str) -> float | None:
    values = [v for log in logs for key, v in log.metrics.items() if key.rsplit("/", 1)[-1] == name]
    return fmean(values) if values else None
