"""The report of a round: all that its page shows, computed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from accord.evals.gates import GateResult
from accord.evals.summary import (
    Comparison,
    Condition,
    HazardRates,
    Rates,
    by_hazard,
    outcome_counts,
)
from accord.report import describe, plots, rounds, transcripts
from accord.report.assessment import assess
from accord.report.corrected import Corrected, corrected
from accord.report.evidence import Evidence
from accord.report.rendering import render_page, write_page
from accord.stats.paired import PairedDifference
from accord.types import Estimate, Kind, Outcome

REPORT_FILE = "report.html"


@dataclass(frozen=True, slots=True)
class Row:
    """One condition in the tables."""

    condition: Condition
    rates: Rates
    corrected: Corrected | None
    role: str


@dataclass(frozen=True, slots=True)
class Card:
    """One number of the headline strip, before and after; `better` says which way is good."""

    title: str
    meaning: str
    before: Estimate
    after: Estimate
    paired: PairedDifference
    better: str


@dataclass(frozen=True, slots=True)
class HazardRow:
    """One hazard before and after."""

    before: HazardRates
    after: HazardRates


@dataclass(frozen=True, slots=True)
class OutcomeRow:
    """How the attempts of one kind ended under one condition."""

    condition: str
    kind: Kind
    n: int
    counts: dict[Outcome, int]
    cut: int


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows, computed."""

    evidence: Evidence
    rows: tuple[Row, ...]
    comparison: Comparison
    gates: tuple[GateResult, ...]
    verdict: describe.Verdict
    cards: tuple[Card, ...]
    hazards: tuple[HazardRow, ...]
    outcomes: tuple[OutcomeRow, ...]
    sections: tuple[transcripts.Section, ...]
    trade_off: plots.Picture | None
    by_hazard: plots.Picture | None
    losses: plots.Picture | None
    rounds_curve: plots.Picture | None
    failures: tuple[tuple[str, int, int, int], ...]
    limits: tuple[str, ...]


def write_report(evidence: Evidence, folder: Path) -> Path:
    """Write `report.html` into `folder`, whole or not at all, and return its path.

    Raises:
        InputError: if the folder cannot be written.
        DataError, PolicyError: if the attempts cannot be compared or cite a hazard that the policy lacks.
    """
    return write_page(render(evidence), Path(folder) / REPORT_FILE)


def render(evidence: Evidence) -> str:
    """Return the report as HTML."""
    return render_page("report.html", view(evidence))


def view(evidence: Evidence) -> View:
    """Compute everything that the page shows."""
    found = assess(evidence)
    rates_of = {c.name: rates for c, rates in found.rated}
    before, after = rates_of[evidence.before.name], rates_of[evidence.aligned]
    hazards = _hazards(evidence)
    spots = [plots.Spot(c.name, rates.contrast_refusal, rates.harmful_refusal) for c, rates in found.rated]
    spans = [
        plots.Span(row.before.hazard.name, row.before.harmful_compliance, row.after.harmful_compliance)
        for row in hazards
    ]
    return View(
        evidence=evidence,
        rows=tuple(Row(c, rates, _corrected(c, evidence), _role(c, evidence)) for c, rates in found.rated),
        comparison=found.comparison,
        gates=found.gates,
        verdict=describe.verdict(found.rated, evidence.aligned, found.comparison, found.gates),
        cards=_cards(before, after, found.comparison),
        hazards=hazards,
        outcomes=_outcomes(evidence),
        sections=transcripts.side_by_side(evidence.before, evidence.after, evidence.policy),
        trade_off=plots.trade_off(spots, evidence.aligned, evidence.curve, evidence.chosen_scale),
        by_hazard=plots.dumbbells(spans),
        losses=plots.losses(evidence.training),
        rounds_curve=rounds.curve(evidence.rounds),
        failures=_failures(evidence),
        limits=describe.limits(evidence.conditions, evidence.scorer, evidence.calibration),
    )


def _corrected(condition: Condition, evidence: Evidence) -> Corrected | None:
    return corrected(condition, evidence.policy, evidence.judge) if evidence.judge else None


def _role(condition: Condition, evidence: Evidence) -> str:
    if condition.name == evidence.before.name:
        return "before"
    return "after" if condition.name == evidence.aligned else ""


def _cards(before: Rates, after: Rates, comparison: Comparison) -> tuple[Card, ...]:
    texts = (
        ("harmful_compliance", "Harmful compliance", "harmful requests complied with", "lower"),
        ("contrast_refusal", "Contrast refusal", "benign look-alikes refused", "lower"),
        ("ordinary_refusal", "Ordinary refusal", "ordinary requests refused", "lower"),
        ("capability", "Capability", "questions answered rightly", "higher"),
    )
    return tuple(
        Card(title, meaning, getattr(before, name), getattr(after, name), getattr(comparison, name), better)
        for name, title, meaning, better in texts
    )


def _hazards(evidence: Evidence) -> tuple[HazardRow, ...]:
    """Return the hazards by what is left of harmful compliance, most first; those never asked about come last."""
    before = by_hazard(evidence.before.attempts, evidence.policy, evidence.calibration)
    after = by_hazard(evidence.after.attempts, evidence.policy, evidence.calibration)
    rows = [HazardRow(ours, theirs) for ours, theirs in zip(before, after, strict=True)]

    def left(row: HazardRow) -> float:
        value = row.after.harmful_compliance.value
        return 2.0 if value is None else -value

    return tuple(sorted(rows, key=left))


def _outcomes(evidence: Evidence) -> tuple[OutcomeRow, ...]:
    rows = []
    for condition in evidence.conditions:
        cut = Counter(attempt.prompt.kind for attempt in condition.attempts if attempt.truncated)
        for kind, counted in outcome_counts(condition.attempts).items():
            rows.append(OutcomeRow(condition.name, kind, sum(counted.values()), counted, cut[kind]))
    return tuple(rows)


def _failures(evidence: Evidence) -> tuple[tuple[str, int, int, int], ...]:
    """Return each kind of failure with how many findings are open, fixed, and sealed from training."""
    names = sorted({finding.failure for finding in evidence.findings})
    return tuple(
        (
            name.replace("-", " "),
            sum(f.failure == name and f.status not in ("fixed", "dismissed") for f in evidence.findings),
            sum(f.failure == name and f.status == "fixed" for f in evidence.findings),
            sum(f.failure == name and f.sealed for f in evidence.findings),
        )
        for name in names
    )
