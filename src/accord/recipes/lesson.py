"""What a later round trains on: repaired findings beside benign prompts in the same dress, and what its control learns instead."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from accord.data.clusters import cluster_ids, clusters
from accord.data.failures import finding_of
from accord.data.findings import FindingStore
from accord.feedback.repair import RepairSettings, repair
from accord.feedback.review import Repair, lessons, read_repairs, write_repairs
from accord.models.completer import Completer
from accord.models.embedder import Embedder
from accord.models.load import LoadedModel
from accord.models.local import LocalCompleter
from accord.policy import Policy
from accord.recipes.contrast_dress import dressed_alike
from accord.redteam.summary import Trial
from accord.runs.atomic import digest
from accord.scorers.scorer import Scorer
from accord.types import Demonstration, Finding

REPAIRS = "repairs.jsonl"
# Findings of one round that are trained on, at most, and rows of the first training set beside them, so that it is kept.
N_FINDINGS, N_REPLAYED_PAIRS, N_REPLAYED_ORDINARY = 240, 80, 80
# Benign rows of a lesson for each harmful one, at most; what is replayed has as many. With more of them a round unlearned to
# refuse, with 1.25 it learned to refuse too much (docs/log.md).
BENIGN_PER_HARMFUL = 2
# The tokens of an answer that are sampled: a few more than the round samples elsewhere, so that it ends with a sentence.
SAMPLED = RepairSettings(samples=2, contrasts=2, max_new_tokens=48)


@dataclass(frozen=True, slots=True)
class Lesson:
    """`rows` teach what was found, `control` as many rows of each kind of the first training set instead; both end with the same
    `n_replayed` rows of it. `n_written` of the answers are the clause's written response: no sampled one was acceptable.
    `n_barred` of the findings asked for may not be trained on: they are sealed, or a person called them no failure.
    """

    findings: tuple[Finding, ...]
    rows: tuple[Demonstration, ...]
    control: tuple[Demonstration, ...]
    n_written: int
    n_replayed: int
    n_barred: int = 0

    @property
    def digest(self) -> str:
        """What names all that is learned and held against it: two lessons of one digest give the same model."""
        rows = {name: [asdict(d) for d in getattr(self, name)] for name in ("rows", "control")}
        # Of a finding the id alone: its status changes with what becomes of the round.
        return digest({**rows, "findings": sorted(f.id for f in self.findings)})


def keep(store: FindingStore, trials: Sequence[Trial], policy: Policy, run: str, number: int) -> tuple[Finding, ...]:
    """Put what failed into the store, clustered by meaning; a benign request that was refused failed too."""
    found = []
    for attempt in (a for trial in trials for a in trial.attempts):
        finding = finding_of(attempt, policy.response_mode(attempt.prompt.clause), run)
        # What is no answer is counted by the campaign; there is nothing in it to train on.
        if finding and finding.failure != "not-an-answer":
            found.append(replace(finding, id=f"round-{number}/{finding.id}"))
    # The same words and answer as in an earlier round are the finding that is there already, under its id.
    kept = {id: replace(f, id=id) for f, id in zip(found, store.add(found).ids, strict=True)}
    ids = cluster_ids(clusters(list(kept.values()), Embedder()))
    store.set_clusters(ids)
    return tuple(replace(f, cluster=ids.get(f.id, "")) for f in kept.values())


@asynccontextmanager
async def completers(*models: LoadedModel) -> AsyncIterator[tuple[LocalCompleter, ...]]:
    """Give models to be asked, and close them behind it."""
    asked = tuple(LocalCompleter(loaded) for loaded in models)
    try:
        yield asked
    finally:
        for completer in asked:
            await completer.close()


async def make_lesson(
    store: FindingStore,
    ids: Sequence[str],
    demonstrations: Sequence[Demonstration],
    policy: Policy,
    answerer: Completer,
    base: Completer,
    scorer: Scorer,
    seed: int,
    folder: Path,
) -> Lesson:
    """Pick findings and repair them; `folder` keeps the repairs, and what a person changed there is honoured.

    Findings that may not be trained on are left out and counted, those too that came to be so after they were repaired: a person
    who labels one between a kill and what goes on from it must not end the run.

    Raises:
        DataError: the file of repairs cannot be read, or one of its prompts repeats a verify prompt.
    """
    trainable = {f.id: f for f in store.trainable()}
    path = folder / REPAIRS
    if not path.exists():
        picked = pick([trainable[id] for id in ids if id in trainable], N_FINDINGS, seed)
        contrasts = [d.prompt for d in demonstrations if d.prompt.kind == "contrast"]
        made = await repair(
            store, policy, contrasts, answerer, base, scorer, dressed_alike, [f.id for f in picked], SAMPLED
        )
        write_repairs(path, made.repairs)
    # A round that found nothing to learn from has an empty file, and replays the first training set alone.
    written = read_repairs(path) if path.stat().st_size else []
    repairs = balanced([r for r in written if r.finding in trainable], seed)
    learned = lessons(repairs, store).demonstrations
    kept = replayed(demonstrations, seed)
    taught = {r.finding for r in repairs if r.use == "repair"}
    return Lesson(
        # Of what stands in the file: a finding that a person labelled meanwhile would change what is picked.
        findings=tuple(trainable[id] for id in ids if id in taught),
        rows=(*learned, *kept),
        control=(*control_of(learned, demonstrations, kept, seed), *kept),
        n_written=sum(r.origin == "written response" for r in repairs),
        n_replayed=len(kept),
        n_barred=sum(id not in trainable for id in ids),
    )


def balanced(repairs: Sequence[Repair], seed: int) -> tuple[Repair, ...]:
    """Return what no person rejected, with at most `BENIGN_PER_HARMFUL` benign rows a harmful one.

    What is dropped is drawn from the contrast prompts first, then from the wrongly refused requests.
    """
    rng = random.Random(f"{seed}/balance")
    kept = [r for r in repairs if r.review != "rejected"]
    harmful = [r for r in kept if r.prompt.kind == "harmful"]
    refused = [r for r in kept if r.prompt.kind != "harmful" and r.use == "repair"]
    contrasts = [r for r in kept if r.prompt.kind != "harmful" and r.use == "contrast"]
    rng.shuffle(refused)
    rng.shuffle(contrasts)
    taken = {r.id for r in [*harmful, *[*refused, *contrasts][: BENIGN_PER_HARMFUL * len(harmful)]]}
    return tuple(r for r in kept if r.id in taken)


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
        picked += [pile.pop() for pile in piles]
        piles = [pile for pile in piles if pile]
    return tuple(picked[:n])


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
    """Return, instead of a lesson's rows, as many of each kind from the first training set, none of those that are replayed.

    There are fewer where that set has no more of them: a smoke run's control trains shorter.
    """
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
