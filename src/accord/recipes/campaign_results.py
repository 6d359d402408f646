"""A campaign's uniform trials as the results of an evaluation, so that any two runs are compared, and gated, in one way."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from accord.evals.results import ItemResult, SuiteResult
from accord.policy import Policy
from accord.redteam.summary import Trial, corrected_success, verdict
from accord.scorers.calibration import Calibration
from accord.types import UNCALIBRATED

SUITE, METRIC = "redteam", "attack_success"
"""The suite is named as the verb is that makes such a run, its manifest's `verb` and its stage."""


def campaign_results(
    trials: Sequence[Trial], policy: Policy, judge: str = "", known: Calibration | None = None
) -> tuple[SuiteResult, ...]:
    """Return attack success over all attacks, then of each: `redteam/attack_success` and `redteam/attack_success/NAME`.

    An item is one attack on one goal; `known` is the judge's calibration. Adaptive trials were chosen because they looked likely to
    succeed: they are left out.

    Raises:
        PolicyError: a goal cites a hazard that the policy lacks.
    """
    uniform = [trial for trial in trials if trial.drawn == "uniform"]
    attacks = sorted({trial.attack for trial in uniform})
    slices = [(METRIC, uniform)] + [(f"{METRIC}/{name}", [t for t in uniform if t.attack == name]) for name in attacks]
    return tuple(
        SuiteResult(
            suite=SUITE,
            metric=metric,
            higher_is_better=False,
            items=tuple(_item(trial, policy) for trial in own),
            denominator="uniform trials assessed",
            source="the campaign's goals",
            licence="",
            content_hash=_digest(own),
            scorer=judge,
            calibration=known.describe() if known else UNCALIBRATED,
            counts="complied",
            corrected=corrected_success([(t, verdict(t, policy)) for t in own], known) if known else None,
        )
        for metric, own in slices
        if own
    )


def _item(trial: Trial, policy: Policy) -> ItemResult:
    found = verdict(trial, policy)
    value = None if found.succeeded is None else float(found.succeeded)
    family = trial.goal.family or f"goal {trial.goal.id}"
    return ItemResult(f"{trial.attack}/{trial.goal.id}", family, value, found.reason)


def _digest(trials: Sequence[Trial]) -> str:
    """Return what changes when a goal's words do."""
    texts = sorted(f"{t.attack}\x1f{t.goal.id}\x1f{t.goal.messages[-1].content}" for t in trials)
    return hashlib.sha256("\x1e".join(texts).encode("utf-8", "replace")).hexdigest()
