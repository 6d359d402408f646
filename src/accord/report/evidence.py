"""The one record that a report is made from: what was measured, under which conditions, and what was trained.

Nothing here computes a rate (`accord.evals.summary` does) and nothing is words (`describe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accord.errors import DataError, nearest
from accord.evals.proof import GroupProof
from accord.evals.summary import Condition
from accord.policy.schema import Gate, Policy
from accord.scorers.calibration import Calibration
from accord.types import UNCALIBRATED, Estimate, Finding


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One strength of the alignment and what it refuses: a point of the trade-off curve."""

    scale: float
    refused_harmful: Estimate
    refused_contrast: Estimate
    refused_ordinary: Estimate


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """One training stage: `what` in words ("SFT on 1,376 demonstrations, 4 passes") and its losses by step."""

    name: str
    what: str
    rows: int
    seconds: float
    losses: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RoundEvidence:
    """What one later round did. `n_found` failures were found by `n_attempts` attempts and fell into `n_clusters` by meaning;
    `n_trained` of them were trained on, `n_written` with the clause's written response. `strengths` are those chosen for the
    control's adapter and the findings' one; `undone` says why the model before the round is kept, empty where it is not.
    """

    number: int
    n_attempts: int
    n_found: int
    n_clusters: int
    n_trained: int
    n_written: int
    proofs: tuple[GroupProof, ...]
    strengths: tuple[float, float]
    undone: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one run has to show.

    The first of `conditions` is the base model, `aligned` names the model that would be released; every other one is
    shown beside them. `created` is an ISO date and time. `rule` says in words how `chosen_scale` was picked from the
    curve. `judge` is the calibration of exactly this scorer, where there is one. `machine` and `settings` are shown as they
    are. `model_license` is an SPDX id of the hub, or empty where it is not known.
    """

    title: str
    run_id: str
    created: str
    model_name: str
    model_fingerprint: str
    policy: Policy
    conditions: tuple[Condition, ...]
    aligned: str
    scorer: str
    judge: Calibration | None = None
    gates: tuple[Gate, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    chosen_scale: float = 1.0
    rule: str = ""
    training: tuple[TrainingStage, ...] = ()
    machine: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    prompt_sets: Mapping[str, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    rounds: tuple[RoundEvidence, ...] = ()
    wall_seconds: float | None = None
    peak_memory_gib: float | None = None
    model_license: str = ""

    def __post_init__(self) -> None:
        names = [condition.name for condition in self.conditions]
        if len(names) < 2:
            raise DataError(f"a report compares two conditions or more; it was given {len(names)}: {', '.join(names)}")
        if len(set(names)) < len(names):
            raise DataError(f"condition names must differ; given: {', '.join(names)}")
        if self.aligned not in names[1:]:
            raise DataError(
                f"the aligned condition '{self.aligned}' is not among those after the base ({', '.join(names[1:])})"
                f"{nearest(self.aligned, names[1:])}"
            )

    @property
    def calibration(self) -> str:
        """What is known of the scorer's error, in words."""
        return self.judge.describe() if self.judge else UNCALIBRATED

    @property
    def before(self) -> Condition:
        """The base model."""
        return self.conditions[0]

    @property
    def after(self) -> Condition:
        """The model that would be released."""
        return next(condition for condition in self.conditions if condition.name == self.aligned)
