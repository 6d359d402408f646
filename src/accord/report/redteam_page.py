"""The page of a red-team campaign: all that it shows, computed. It holds harmful requests and answers, folded.

Rates rest on uniform trials; what the adaptive ones found is listed among the findings. Left out: whether an answer would do harm
in the world, which no judge here says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from accord.policy.schema import Policy
from accord.redteam.summary import CampaignSummary, Found, SliceRates, Trial
from accord.report import describe
from accord.report.forest import Bar, forest
from accord.report.plots import Picture
from accord.report.rendering import render_page, write_page
from accord.types import UNCALIBRATED, Attempt

REDTEAM_FILE = "report.html"
SHOWN_CLUSTERS = 60
SHOWN_IN_A_CLUSTER = 10


@dataclass(frozen=True, slots=True)
class CampaignEvidence:
    """What one campaign has to show.

    `clusters` names the cluster of a finding by its attempt's id; findings without one are grouped by their goal's family.
    `white_box` are the attacks that need the model's weights. `settings` and `machine` are shown as they are.
    """

    title: str
    run_id: str
    created: str
    policy: Policy
    summary: CampaignSummary
    trials: tuple[Trial, ...]
    clusters: Mapping[str, str] = field(default_factory=dict)
    white_box: frozenset[str] = frozenset()
    settings: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    wall_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class HeatRow:
    """One attack against every hazard, in the columns' order; None where no uniform trial was made."""

    attack: str
    cells: tuple[SliceRates | None, ...]


@dataclass(frozen=True, slots=True)
class ShownFinding:
    """One success: the attempt that got it, and how it was drawn."""

    found: Found
    attempt: Attempt


@dataclass(frozen=True, slots=True)
class Cluster:
    """Findings that are one failure: how many, by which attacks, under which hazards, and the first of them."""

    name: str
    n: int
    attacks: tuple[str, ...]
    hazards: tuple[str, ...]
    shown: tuple[ShownFinding, ...]


@dataclass(frozen=True, slots=True)
class RedTeamView:
    """All that the template shows, computed."""

    evidence: CampaignEvidence
    warnings: tuple[str, ...]
    headline: str
    sentences: tuple[str, ...]
    picture: Picture | None
    hazards: tuple[str, ...]
    heat: tuple[HeatRow, ...]
    clusters: tuple[Cluster, ...]
    n_clusters: int
    clustered: bool
    lineage: tuple[str, ...]
    limits: tuple[str, ...]


def write_redteam_report(evidence: CampaignEvidence, folder: Path) -> Path:
    """Write `report.html` into a campaign's folder and return its path.

    Raises:
        InputError: if the folder cannot be written.
    """
    return write_page(render_redteam(evidence), Path(folder) / REDTEAM_FILE)


def render_redteam(evidence: CampaignEvidence) -> str:
    """Return the page as HTML."""
    return render_page("redteam.html", redteam_view(evidence))


def redteam_view(evidence: CampaignEvidence) -> RedTeamView:
    """Compute everything that the page shows."""
    summary = evidence.summary
    bars = [Bar(rates.attack, rates.success) for rates in summary.by_attack]
    alt = "Attack success. " + " ".join(f"{r.attack}: {describe.full(r.success)}." for r in summary.by_attack)
    hazards = tuple(rates.hazard for rates in summary.by_hazard)
    clusters = find_clusters(evidence)
    return RedTeamView(
        evidence=evidence,
        warnings=tuple(f"{line[:1].upper()}{line[1:]}." for line in summary.warnings),
        headline=headline(summary),
        sentences=sentences(summary, evidence.white_box),
        picture=forest(bars, "Goals got, of those assessed", alt, signed=False) if bars else None,
        hazards=hazards,
        heat=heat_rows(summary, hazards),
        clusters=clusters[:SHOWN_CLUSTERS],
        n_clusters=len(clusters),
        clustered=bool(evidence.clusters),
        lineage=lineage(summary.splits),
        limits=limits(evidence),
    )


def headline(summary: CampaignSummary) -> str:
    """Return the result in one line."""
    success = summary.overall.success
    if success.value is None:
        n = summary.overall.n_trials
        return (
            f"Not measured: not one of {n:,} trials could be assessed." if n else "Not measured: no attack was tried."
        )
    return f"An attack got what it wanted in {describe.percent(success.value)} of the trials that could be assessed."


def sentences(summary: CampaignSummary, white_box: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return the account of the headline."""
    if not summary.measured:
        return ("No rate exists, and nothing is shown about safety.",)
    lines = [f"Attack success: {describe.full(summary.overall.success)}. A trial is one attack on one goal."]
    if (corrected := summary.overall.corrected_answers) is not None:
        lines.append(
            f"Of all answers, {describe.full(summary.overall.answers)} gave what the policy forbids; "
            f"corrected for the judge’s error {describe.corrected(corrected)}."
        )
    if summary.goals_got.value is not None:
        lines.append(
            f"At least one attack got the goal, of all {summary.n_goals:,} goals: {describe.full(summary.goals_got)}."
        )
    for words, needs_weights in (("Most found for a question", False), ("With the model’s weights", True)):
        ranked = [r for r in summary.by_attack if r.per_query.value and (r.attack in white_box) == needs_weights]
        if ranked:
            lines.append(f"{words}: {ranked[0].attack}, {describe.per_success(ranked[0].per_query)}.")
    found = {drawn: sum(f.drawn == drawn for f in summary.found) for drawn in ("uniform", "adaptive")}
    if summary.spent["adaptive"].n_trials:
        lines.append(
            f"{found['uniform']:,} successes came from trials drawn uniformly, which alone make the rates; {found['adaptive']:,} "
            "from trials aimed where successes were expected, which are listed and are in no rate."
        )
    else:
        lines.append("Every trial was drawn uniformly, before anything was seen.")
    return tuple(lines)


def heat_rows(summary: CampaignSummary, hazards: Sequence[str]) -> tuple[HeatRow, ...]:
    """Return the rates of every attack on every hazard."""
    cells = {(rates.attack, rates.hazard): rates for rates in summary.cells}
    return tuple(
        HeatRow(a.attack, tuple(cells.get((a.attack, hazard)) for hazard in hazards)) for a in summary.by_attack
    )


def find_clusters(evidence: CampaignEvidence) -> tuple[Cluster, ...]:
    """Return the findings grouped into failures, the largest first; in each the cheapest to get first."""
    attempts = {(t.attack, t.goal.id, a.id): a for t in evidence.trials for a in t.attempts}
    grouped: dict[str, list[ShownFinding]] = {}
    for found in evidence.summary.found:
        attempt = attempts.get((found.attack, found.goal_id, found.attempt_id))
        if attempt is not None:
            name = f"cluster {id}" if (id := evidence.clusters.get(found.attempt_id)) else found.family
            grouped.setdefault(name, []).append(ShownFinding(found, attempt))
    clusters = [_cluster(name, rows) for name, rows in grouped.items()]
    return tuple(sorted(clusters, key=lambda cluster: (-cluster.n, cluster.name)))


def _cluster(name: str, rows: Sequence[ShownFinding]) -> Cluster:
    cheapest = sorted(rows, key=lambda row: (row.found.query, row.found.attack, row.found.goal_id))
    return Cluster(
        name=name,
        n=len(rows),
        attacks=tuple(sorted({row.found.attack for row in rows})),
        hazards=tuple(sorted({row.found.hazard for row in rows})),
        shown=tuple(cheapest[:SHOWN_IN_A_CLUSTER]),
    )


def lineage(splits: Mapping[str, int]) -> tuple[str, ...]:
    """Return what may be done with the findings, by the split of their goals."""
    words = {
        "train": "may be trained on, so what is left of them shows regression, not safety",
        "discover": "may be trained on in the next round; then they show regression, not safety",
        "verify": "sealed from training; only these may feed release gates",
    }
    return tuple(f"{n:,} goals of the {name} split: {words[name]}." for name, n in splits.items() if n)


def limits(evidence: CampaignEvidence) -> tuple[str, ...]:
    """Return what this evidence cannot tell."""
    summary = evidence.summary
    lines = [
        "That the model is safe. No success means that these attacks, with this budget, did not find one.",
        "How an attacker with more questions, other attacks or the weights would fare.",
        f"Whether an answer is correct, or harmful in fact. The judge ({summary.judge}) says what it recognises.",
        "Which of many cells differ by chance. The intervals are not corrected for how many are shown.",
        "How often the same question gets the same answer.",
    ]
    if summary.calibration == UNCALIBRATED:
        lines.insert(2, "The judge’s own error: it is uncalibrated, and no interval here includes it.")
    else:
        lines.insert(
            2,
            "The judge’s error on these answers: it was calibrated on others, and only the corrected rates include it. What an "
            "attack reads in an answer before the judge does (a decoded text, whether it is about the goal) was not calibrated.",
        )
    if evidence.white_box:
        lines.append("How likely an attacker is to have the weights, which the white-box attacks need.")
    return tuple(lines)
