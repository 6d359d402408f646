"""`accord findings`: the store of failures on the command line."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.align import RUNS
from accord.cli.options import Judge
from accord.errors import DataError, GateError, InputError, NotMeasuredError, nearest

if TYPE_CHECKING:
    from accord.data.findings import FindingStore
    from accord.redteam.regression import Regression
    from accord.types import Estimate, Finding

DEFAULT_STORE = str(RUNS / "findings.sqlite")
LABELS = {"failure": "failure", "not-a-failure": "not a failure"}
_WIDTH = 60

Store = Annotated[str, typer.Option(help="The store: an SQLite file, or postgresql://USER@HOST/DATABASE.")]
Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
# Those of `FindingStore.query`, each an option of every verb that takes some of the findings.
FILTERS = {
    "clause": "Only findings under this clause.",
    "family": "Only findings of this family.",
    "split": "Only findings of this split: train, discover or verify.",
    "status": "Only findings that are open, in training, fixed, regressed or dismissed.",
    "failure": "Only harmful-compliance, over-refusal or not-an-answer.",
    "attack": "Only findings made by this attack.",
    "cluster": "Only findings of this cluster.",
    "run": "Only findings of this run.",
    "text": "Only findings that hold this text in prompt or answer.",
}


def filtered(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb with an option for each filter; it is handed what was given of them as `wanted`."""

    @wraps(verb)
    def command(**given: Any) -> None:
        verb(wanted={name: given.pop(name) for name in FILTERS}, **given)

    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "wanted"]
    filters = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, typer.Option(help=text)]
        )
        for name, text in FILTERS.items()
    ]
    parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *filters]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def findings_add(
    run: Path = typer.Argument(..., help="A run's folder, or a JSONL file of findings."),
    store: Store = DEFAULT_STORE,
    json_: Json = False,
) -> None:
    """Add a run's findings; what is there already stays one row. All findings are then clustered by meaning."""
    from dataclasses import replace

    from accord.data.clusters import cluster_ids, clusters
    from accord.data.findings import FindingStore
    from accord.data.records import read_findings
    from accord.models.embedder import INSTALL_EMBEDDER, Embedder, embedder_folder

    file = run / "findings.jsonl" if run.is_dir() else run
    now = datetime.now(UTC).isoformat(timespec="seconds")
    name = run.name if run.is_dir() else ""
    found = [replace(f, run=f.run or name, created=f.created or now) for f in read_findings(file)]
    with FindingStore(store) as opened:
        added = opened.add(found)
        kept = opened.query()
        groups = clusters(kept, Embedder()) if embedder_folder() else None
        if groups is not None:
            opened.set_clusters(cluster_ids(groups))
    if json_:
        print(json.dumps({"store": store, "read": len(found), "new": added.n_new, "findings": len(kept),
                          "clusters": None if groups is None else len(groups)}))  # fmt: skip
        return
    print(f"{file}: {len(found)} findings, {added.n_new} of them new; {store} holds {len(kept)}")
    print(f"not clustered; run: {INSTALL_EMBEDDER}" if groups is None else f"{len(groups)} clusters")


@filtered
def findings_list(
    wanted: Mapping[str, Any],
    store: Store = DEFAULT_STORE,
    clusters: bool = typer.Option(False, "--clusters", help="One line a cluster, the largest first."),
    json_: Json = False,
) -> None:
    """List findings, oldest first."""
    from accord.data.records import to_row

    with open_store(store) as opened:
        found = opened.query(**wanted)
    if json_:
        print(json.dumps([to_row(f) for f in found]))
        return
    if clusters:
        sizes = Counter(f.cluster for f in found if f.cluster)
        first = {f.cluster: f for f in reversed(found)}
        for id, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
            print(f"{id}  {size:>5} x  {first[id].failure:<18} {first[id].prompt.clause:<22} {_words(first[id])}")
    else:
        for f in found:
            marks = ", ".join(m for m in ("sealed" if f.sealed else "", f.human_label or "") if m)
            print(f"{f.id}  {f.status}  {f.failure}  {f.prompt.clause or '-'}  {f.attack or 'direct'}"
                  f"{f'  ({marks})' if marks else ''}\n    {_words(f)}")  # fmt: skip
    by_status = ", ".join(f"{n} {name}" for name, n in sorted(Counter(f.status for f in found).items()))
    n_clusters = len({f.cluster for f in found if f.cluster})
    print(f"{len(found)} findings ({by_status or 'none'}); {n_clusters} clusters; "
          f"{sum(f.sealed for f in found)} sealed from training")  # fmt: skip


def findings_show(
    id: str = typer.Argument(..., help="The finding's id."), store: Store = DEFAULT_STORE, json_: Json = False
) -> None:
    """Show one finding: what was asked and answered, and the evidence that it is a failure."""
    from accord.data.messages import show
    from accord.data.records import to_row
    from accord.report.transcripts import printable

    with open_store(store) as opened:
        f = opened.get(id)
    if json_:
        print(json.dumps(to_row(f)))
        return
    facts = {
        "clause": f.prompt.clause, "family": f.prompt.family, "split": f.prompt.split, "attack": f.attack or "direct",
        "found on": f.condition, "run": f.run, "created": f.created, "cluster": f.cluster,
        "a person says": f.human_label or "nothing yet", "training": "sealed" if f.sealed else "allowed",
        "scorer": f"{f.score.scorer} says {f.outcome.value}", "because": f.score.reason, "evidence": f.score.evidence,
        "value": "" if f.score.value is None else f"{f.score.value:.3f}", "minimal form": f.minimal,
        "siblings": ", ".join(f.siblings), "goal": show(f.prompt.messages) if f.sent else "",
    }  # fmt: skip
    print(printable(f"{f.id}: {f.failure}, {f.status}"))
    print("\n".join(f"  {name:<14} {printable(value)}" for name, value in facts.items() if value))
    print(printable(f"{show(f.asked)}\n[assistant] {f.prefill}{f.answer}"))


def findings_label(
    id: str = typer.Argument(..., help="The finding's id."),
    label: str = typer.Argument(..., help="failure, or not-a-failure."),
    store: Store = DEFAULT_STORE,
) -> None:
    """Keep what a person says of a finding; one that is no failure is dismissed and never trained on."""
    if label not in LABELS:
        raise InputError(f"label '{label}'{nearest(label, LABELS) or ''}; expected one of: {', '.join(LABELS)}")
    with open_store(store) as opened:
        f = opened.label(id, LABELS[label])  # type: ignore[arg-type]  # one of the two
    print(f"{f.id}: a person says {f.human_label}; {f.status}")


@filtered
def findings_export(
    wanted: Mapping[str, Any],
    out: Path = typer.Argument(..., help="The JSONL file to write."),
    store: Store = DEFAULT_STORE,
    sealed: bool = typer.Option(
        False, "--sealed", help="The sealed findings instead, each marked so: for evaluation only."
    ),
) -> None:
    """Write the findings that may be trained on, as JSONL; with --sealed those that may not."""
    from accord.data.records import write_records

    with open_store(store) as opened:
        found = opened.query(**wanted, sealed=sealed)
        allowed = {f.id for f in opened.trainable()}
    kept = [f for f in found if sealed or f.id in allowed]
    if not kept:
        raise DataError(f"{store}: no {'sealed' if sealed else 'trainable'} finding matches; nothing was written")
    write_records(out, kept)
    print(f"{out}: {len(kept)} {'sealed findings, for evaluation only' if sealed else 'findings to train on'}")


@filtered
def findings_regress(
    wanted: Mapping[str, Any],
    model: str = typer.Argument(..., help="A run, a local folder, a hub id, openai:NAME@URL, or 'starter'."),
    store: Store = DEFAULT_STORE,
    policy: str = typer.Option("", help="The policy that answers are held against; the starter policy if none."),
    judge: Judge = "refusal",
    max_new_tokens: int = typer.Option(64, min=1, help="The longest answer."),
    limit: int = typer.Option(0, min=0, help="Ask only so many findings, the oldest first."),
    record: bool = typer.Option(False, "--record", help="Keep in the store which are fixed and which have regressed."),
    gate: bool = typer.Option(
        False, "--gate", help="End with exit code 1 if any still fails, or over 5 % is not measured."
    ),
    json_: Json = False,
) -> None:
    """Put findings, sealed ones too, to a model again: which still fail, which are fixed, which have regressed."""
    from accord.models.opening import open_completer
    from accord.policy import load_policy
    from accord.redteam.regression import STATUS, ask_again
    from accord.scorers.named import scorer_named
    from accord.scorers.selfcheck import require_trusted
    from accord.starter import policy_path

    rules = load_policy(policy or policy_path())
    scorer = scorer_named(judge, rules)
    require_trusted(scorer, rules)
    with open_store(store) as opened:
        asked = opened.query(**wanted)
        found = [f for f in asked if f.status != "dismissed" or wanted["status"] == "dismissed"][: limit or None]
        if not found:
            raise NotMeasuredError(f"{store}: no finding matches, so nothing was asked")
        completer = open_completer(model)

        async def ask() -> Regression:
            try:
                return await ask_again(found, completer, scorer, rules, max_new_tokens)
            finally:
                await completer.close()

        result = asyncio.run(ask())
        if record:
            for verdict, new in STATUS.items():
                opened.set_status([r.finding.id for r in result.having(verdict)], new)
    _tell(result, model, json_)
    _judge(result, gate)


def _tell(result: Regression, model: str, as_json: bool) -> None:
    from dataclasses import asdict

    counts = dict(Counter(r.verdict for r in result.reruns))
    if as_json:
        rows = [{"id": r.finding.id, "verdict": r.verdict, "outcome": r.score.outcome.value, "reason": r.score.reason,
                 "evidence": r.score.evidence, "answer": r.answer} for r in result.reruns]  # fmt: skip
        print(json.dumps({"model": model, "counts": counts, "failing": asdict(result.failing), "findings": rows}))
        return
    for r in sorted(result.reruns, key=lambda r: r.verdict):
        print(f"{r.verdict:<13} {r.finding.id}  {r.finding.failure}  {_words(r.finding)}")
    print(f"{model}: " + ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items())))
    print(f"failing: {_rate(result.failing)}")


def _judge(result: Regression, gate: bool) -> None:
    from accord.evals.summary import NOT_AN_ANSWER_LIMIT, unscored_share

    if result.failing.value is None:
        raise NotMeasuredError(
            f"none of {len(result.reruns)} findings could be measured: {dict(result.failing.unscored)}"
        )
    failing = len(result.having("still fails", "regressed"))
    share = unscored_share(result.failing) or 0
    if gate and failing:
        raise GateError(
            f"{failing} of {result.failing.n} findings fail, {len(result.having('regressed'))} of them again"
        )
    if gate and share > NOT_AN_ANSWER_LIMIT:
        raise GateError(f"{share:.1%} of the findings could not be measured, so they are not shown to be fixed")


def open_store(where: str) -> FindingStore:
    """Open a store that is there; a mistyped path must not look like an empty store."""
    from accord.data.findings import FindingStore

    if "://" not in where and not Path(where).exists():
        raise DataError(f"there is no store {where}; `accord findings add RUN --store {where}` makes it")
    return FindingStore(where)


def _words(f: Finding) -> str:
    from accord.report.transcripts import printable
    from accord.types import last_user_text

    text = printable(" ".join(last_user_text(f.prompt.messages).split()))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


def _rate(e: Estimate) -> str:
    unscored = "".join(f"; {n} not measured: {why}" for why, n in e.unscored.items())
    if e.value is None:
        return f"not measured (n=0{unscored})"
    return f"{e.value:.1%} [{e.low:.1%}, {e.high:.1%}] (n={e.n}{unscored}; {e.method}; {e.calibration})"


COMMANDS = (findings_add, findings_list, findings_show, findings_label, findings_export, findings_regress)
