"""The report of a campaign: its findings clustered by meaning, where the embedder is installed, and the page."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.data.clusters import cluster_ids, clusters
from accord.data.failures import finding_of
from accord.models.embedder import Embedder, embedder_folder
from accord.policy import Policy
from accord.redteam.summary import CampaignSummary, Trial
from accord.report.redteam_page import CampaignEvidence, write_redteam_report
from accord.runs.folder import Run
from accord.types import Attempt

# Settings that a reader of the report wants; the manifest has all.
_SHOWN = ("attacks", "goals", "attacker", "budget", "queries", "uniform_share", "max_new_tokens", "temperature", "seed")
_MACHINE = ("processor", "cores", "memory", "accord", "torch", "transformers")


def write_campaign_report(
    run: Run, policy: Policy, summary: CampaignSummary, trials: Sequence[Trial], white_box: frozenset[str]
) -> Path:
    """Write `report.html` into a campaign's folder and return its path; `white_box` are the attacks that need the weights.

    Raises:
        InputError: the folder cannot be written.
    """
    manifest = run.manifest()
    shown = {name: run.asked.get(name) for name in (*_SHOWN, *(["white_box_steps"] if white_box else []))}
    evidence = CampaignEvidence(
        title=f"Red team of {summary.model}",
        run_id=run.folder.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        policy=policy,
        summary=summary,
        trials=tuple(trials),
        clusters=finding_clusters(summary, trials, policy),
        white_box=white_box,
        settings={name: _words(value) for name, value in shown.items() if value not in (None, "", [], ())},
        machine={name: str(manifest[name]) for name in _MACHINE if name in manifest},
    )
    return write_redteam_report(evidence, run.folder)


def finding_clusters(summary: CampaignSummary, trials: Sequence[Trial], policy: Policy) -> Mapping[str, str]:
    """Return the cluster of each success by its attempt's id; none where the embedder is not installed."""
    if not summary.found or not embedder_folder():
        return {}
    attempts: dict[str, Attempt] = {attempt.id: attempt for trial in trials for attempt in trial.attempts}
    hits = [attempts[found.attempt_id] for found in summary.found]
    findings = [finding_of(hit, policy.response_mode(hit.prompt.clause)) for hit in hits]
    return cluster_ids(clusters([finding for finding in findings if finding is not None], Embedder()))


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
