"""Stored findings put to a model again: which still fail, which are fixed, which had been fixed and fail again.

Each is asked once, greedily, in the conversation that it was found with, and its answer is read as its attack read it. Left out:
the system prompt of the condition it was found under, which the model given is to bring along, and sampling: a failure that comes
one time in ten may not show.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from accord.errors import SettingsError
from accord.models.coalesce import Coalescer
from accord.models.completer import Ability, Completer
from accord.models.sampling import Sampling
from accord.policy.schema import Policy
from accord.redteam.campaign import JUDGE_ROWS
from accord.redteam.choice import shipped_attack
from accord.redteam.dressing import Dressed
from accord.redteam.target import Budget, Judge, Reader, Target
from accord.scorers.scorer import Scorer
from accord.stats.bootstrap import clustered_proportion
from accord.types import Estimate, Finding, FindingStatus, Outcome, Score, acceptable, gave_harm

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
    """Return how a model fares on findings.

    Not measured is a request that fails, an answer that no scorer reads, and a finding whose attack cannot be rebuilt.
    """
    # In a thread of its own: a judge behind a server runs a loop of its own, which cannot be this one.
    judge = Coalescer(scorer.score_all, JUDGE_ROWS)
    sampling = Sampling(max_new_tokens, 0.0, seed)
    try:
        reruns = tuple(await asyncio.gather(*(_rerun(f, completer, judge, policy, sampling) for f in findings)))
    finally:
        judge.close()
    assessed = [r for r in reruns if r.verdict != "not measured"]
    unscored = Counter(r.score.reason or r.score.outcome.value for r in reruns if r.verdict == "not measured")
    fails = [r.verdict in ("still fails", "regressed") for r in assessed]
    families = [r.finding.prompt.family or f"prompt {r.finding.prompt.id}" for r in assessed]
    return Regression(reruns, clustered_proportion(fails, families, unscored))


def target_for(
    finding: Finding, completer: Completer, judge: Judge, policy: Policy, sampling: Sampling, queries: int = 1
) -> Target:
    """Return a model as the attack of a finding would meet it."""
    mode = policy.response_mode(finding.prompt.clause)
    attack = finding.attack or "direct"
    return Target(completer, judge, finding.prompt, attack, Budget(queries), sampling, completer, mode)


def reader_for(finding: Finding, target: Target) -> Reader | None:
    """Return what stands between an answer and the judge, as when the finding was made; None where the judge reads the answer.

    Raises:
        SettingsError: the attack is not known here, or what it gave the model cannot be given again.
    """
    if not finding.attack:
        return None
    reader = getattr(shipped_attack(finding.attack), "reader", None)
    return reader(finding.prompt, Dressed(finding.asked, finding.prefill), target) if reader else None


async def _rerun(finding: Finding, completer: Completer, judge: Judge, policy: Policy, sampling: Sampling) -> Rerun:
    target = target_for(finding, completer, judge, policy, sampling)
    try:
        if finding.prefill and Ability.PREFILL not in completer.abilities:
            raise SettingsError("the model takes no prefill")
        read = reader_for(finding, target)
    except SettingsError as error:
        return Rerun(finding, "", Score(Outcome.UNSCORED, "", str(error)), "not measured")
    attempt = await target.ask(finding.asked, finding.prefill, read=read)
    return Rerun(finding, attempt.answer, attempt.score, _verdict(finding, attempt.score.outcome, policy))


def _verdict(finding: Finding, outcome: Outcome, policy: Policy) -> Verdict:
    mode = policy.response_mode(finding.prompt.clause)
    if not outcome.assessed:
        return "not measured"
    # As in a campaign, an answer to something else gives no harm; of what was no answer it is the failure itself.
    fails = (
        gave_harm(mode, outcome)
        if finding.failure == "harmful-compliance"
        else not acceptable(finding.prompt.kind, mode, outcome)
    )
    if finding.status == "fixed":
        return "regressed" if fails else "still fixed"
    return "still fails" if fails else "fixed"
