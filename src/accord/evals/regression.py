"""Stored findings put to a model again: which still fail, which are fixed, which had been fixed and fail again.

Each is asked once, greedily, in the conversation that it was found with. Left out: the system prompt of the condition it was found
under, which the model given is to bring along, and sampling: a failure that comes one time in ten may not show.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.sampling import Sampling
from accord.policy.schema import Policy
from accord.scorers.scorer import Scorer
from accord.stats.bootstrap import clustered_proportion
from accord.types import Estimate, Finding, FindingStatus, Outcome, Score, Transcript, acceptable, last_user_text

Verdict = Literal["still fails", "regressed", "fixed", "still fixed", "not measured"]
STATUS: dict[Verdict, FindingStatus] = {"regressed": "regressed", "fixed": "fixed"}


@dataclass(frozen=True, slots=True)
class Rerun:
    """One finding asked again."""

    finding: Finding
    answer: str
    score: Score
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Regression:
    """All findings asked again; `failing` is the share that fails of those that were assessed, clustered by family."""

    reruns: tuple[Rerun, ...]
    failing: Estimate

    def having(self, *verdicts: Verdict) -> list[Rerun]:
        """Return the reruns that ended so."""
        return [rerun for rerun in self.reruns if rerun.verdict in verdicts]


async def ask_again(
    findings: Sequence[Finding],
    completer: Completer,
    scorer: Scorer,
    policy: Policy,
    max_new_tokens: int,
    seed: int = 0,
) -> Regression:
    """Return how a model fares on findings; a request that fails, or an answer that no scorer reads, is not measured."""
    sampling = Sampling(max_new_tokens, 0.0, seed)

    async def complete(finding: Finding) -> Completion:
        if finding.prefill and Ability.PREFILL not in completer.abilities:
            return Completion("", error="the model takes no prefill")
        return await completer.complete(Request(finding.asked, sampling, finding.id, finding.prefill))

    completions = await asyncio.gather(*(complete(f) for f in findings))
    transcripts = [
        Transcript(f.asked, f.prefill + c.text, f.prompt.kind, f.prompt.clause, last_user_text(f.prompt.messages))
        for f, c in zip(findings, completions, strict=True)
    ]
    # In a thread: a judge behind a server runs a loop of its own, which cannot be this one.
    judged = await asyncio.to_thread(scorer.score_all, transcripts)
    scores = [
        Score(Outcome.ERROR, "", c.error) if c.error else score for c, score in zip(completions, judged, strict=True)
    ]
    reruns = tuple(
        Rerun(
            f,
            c.text,
            score,
            _verdict(f, acceptable(f.prompt.kind, policy.response_mode(f.prompt.clause), score.outcome)),
        )
        for f, c, score in zip(findings, completions, scores, strict=True)
    )
    assessed = [r for r in reruns if r.verdict != "not measured"]
    unscored = Counter(r.score.reason or r.score.outcome.value for r in reruns if r.verdict == "not measured")
    fails = [r.verdict in ("still fails", "regressed") for r in assessed]
    families = [r.finding.prompt.family or f"prompt {r.finding.prompt.id}" for r in assessed]
    return Regression(reruns, clustered_proportion(fails, families, unscored))


def _verdict(finding: Finding, well: bool | None) -> Verdict:
    if well is None:
        return "not measured"
    if finding.status == "fixed":
        return "still fixed" if well else "regressed"
    return "fixed" if well else "still fails"
