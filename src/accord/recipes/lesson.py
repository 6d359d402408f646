"""What a later round trains on: repaired findings beside benign twins in the same form, and what its control trains on instead."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from accord.data.lineage import trained_id
from accord.redteam.summary import Trial
from accord.types import Attempt, Demonstration, Finding, Outcome

# Findings of one round that are trained on, at most, and pairs of the first training set beside them, so that it is kept.
N_FINDINGS, N_REPLAYED_PAIRS, N_REPLAYED_ORDINARY = 240, 80, 80


@dataclass(frozen=True, slots=True)
class Lesson:
    """`rows` teach what was found, `control` as many rows of each kind of the first training set; `n_written` of the answers are
    the clause's written response, because no sampled one was acceptable.
    """

    findings: tuple[Finding, ...]
    rows: tuple[Demonstration, ...]
    control: tuple[Demonstration, ...]
    n_written: int


def pick(findings: Sequence[Finding], n: int, seed: int) -> tuple[Finding, ...]:
    """Return at most `n` findings, one of each cluster in turn: a hundred copies of one failure weigh as much as one.

    Findings whose answer was put in the model's mouth are left out: no prompt leads to them.
    """
    rng = random.Random(f"{seed}/findings")
    by_cluster: dict[str, list[Finding]] = {}
    for finding in findings:
        if not finding.prefill:
            by_cluster.setdefault(finding.cluster or finding.id, []).append(finding)
    piles = list(by_cluster.values())
    for pile in piles:
        rng.shuffle(pile)
    rng.shuffle(piles)
    picked: list[Finding] = []
    while piles and len(picked) < n:
        for pile in piles:
            picked.append(pile.pop())
        piles = [pile for pile in piles if pile]
    return tuple(picked[:n])


def twins(findings: Sequence[Finding], trials: Sequence[Trial]) -> dict[str, Attempt]:
    """Return, by the finding's id, the answered attempt at the benign twin of its goal, in the same form under the same attack."""
    attempts = {
        (a.attack, a.prompt.pair, a.queries): a
        for trial in trials
        for a in trial.attempts
        if a.prompt.kind == "contrast" and a.score.outcome is Outcome.COMPLIED
    }
    found: dict[str, Attempt] = {}
    for finding in findings:
        own = [a for (attack, pair, _), a in attempts.items() if (attack, pair) == (finding.attack, finding.prompt.pair)]
        if finding.prompt.kind == "harmful" and finding.prompt.pair and own:
            found[finding.id] = own[0]
    return found


def rows_of(
    findings: Sequence[Finding], answers: Mapping[str, str], beside: Mapping[str, Attempt]
) -> tuple[Demonstration, ...]:
    """Return a row for each finding that has an answer, in the words that were sent, and one for its twin, in one pair.

    On the twin, as on every benign prompt, nothing is imitated: the model is kept where the base model is.
    """
    rows: list[Demonstration] = []
    for finding in findings:
        if finding.id not in answers:
            continue
        id = trained_id(finding.prompt.id, finding.attack)
        prompt = replace(finding.prompt, id=id, messages=finding.asked, split="train", pair=id)
        rows.append(Demonstration(prompt, answers[finding.id]))
        if twin := beside.get(finding.id):
            other = replace(twin.prompt, id=f"twin of {id}", messages=twin.sent, split="train", pair=id)
            rows.append(Demonstration(other, twin.answer))
    return tuple(rows)


def replayed(demonstrations: Sequence[Demonstration], seed: int) -> tuple[Demonstration, ...]:
    """Return rows of the first training set that stand beside either lesson."""
    rng = random.Random(f"{seed}/replayed")
    ordinary = [d for d in demonstrations if d.prompt.kind == "ordinary"]
    return (
        *_pairs(demonstrations, N_REPLAYED_PAIRS, rng),
        *rng.sample(ordinary, min(N_REPLAYED_ORDINARY, len(ordinary))),
    )


def control_of(
    rows: Sequence[Demonstration], demonstrations: Sequence[Demonstration], kept: Sequence[Demonstration], seed: int
) -> tuple[Demonstration, ...]:
    """Return, instead of a lesson's rows, as many of each kind from the first training set, none of those that are replayed."""
    rng = random.Random(f"{seed}/control")
    used = {d.prompt.id for d in kept}
    free = [d for d in demonstrations if d.prompt.id not in used]
    n_harmful = sum(d.prompt.kind == "harmful" for d in rows)
    control = list(_pairs(free, n_harmful, rng))
    n_benign = len(rows) - n_harmful
    benign = [d for d in control if d.prompt.kind != "harmful"]
    if len(benign) > n_benign:
        dropped = {d.prompt.id for d in rng.sample(benign, len(benign) - n_benign)}
        control = [d for d in control if d.prompt.id not in dropped]
    elif len(benign) < n_benign:
        taken = {d.prompt.id for d in control}
        others = [d for d in free if d.prompt.kind == "contrast" and d.prompt.id not in taken]
        control += rng.sample(others, min(n_benign - len(benign), len(others)))
    return tuple(control)


def _pairs(demonstrations: Sequence[Demonstration], n: int, rng: random.Random) -> list[Demonstration]:
    """Return the rows of `n` pairs of a harmful prompt and its benign twin."""
    by_pair: dict[str, list[Demonstration]] = {}
    for d in demonstrations:
        if d.prompt.kind in ("harmful", "contrast") and d.prompt.pair:
            by_pair.setdefault(d.prompt.pair, []).append(d)
    whole = [rows for rows in by_pair.values() if {d.prompt.kind for d in rows} == {"harmful", "contrast"}]
    return [d for rows in rng.sample(whole, min(n, len(whole))) for d in rows]
