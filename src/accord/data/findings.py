"""The store of findings: SQLite in a file, or PostgreSQL by URL. What is sealed is decided here, so that no caller can train on it.

A finding is sealed if its split is `verify`, or if its prompt, what was sent or its minimal form has the family of a verify prompt,
nearly repeats one, or holds one word for word. The verify prompts are the starter's, those given to `seal`, and those of the
findings themselves. What was sealed stays so. `trainable` is the one way to findings for training.

A record is kept whole as JSON beside the columns that are searched. Writers take turns, and each change is one transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self, get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from accord.data.database import open_database, plain, without_password, writing
from accord.data.fence import why_sealed
from accord.data.near_duplicates import normalise
from accord.data.records import as_text, finding_from_row, prompt_from_row, read_prompts, to_row
from accord.errors import DataError, nearest
from accord.starter import verify_path
from accord.types import Failure, Finding, FindingStatus, HumanLabel, Message, Prompt, Split

SCHEMA_VERSION = 1
_SHOWN = 10
_MOST_AT_ONCE = 500  # ids in one query; SQLite's limit is some thousands

_TABLES = sa.MetaData()
_VERSION = sa.Table("accord_findings_version", _TABLES, sa.Column("version", sa.Integer, primary_key=True))
_FINDINGS = sa.Table(
    "accord_findings",
    _TABLES,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    *(
        sa.Column(name, sa.Text, nullable=False, index=True)
        for name in ("clause", "family", "split", "failure", "status", "attack", "cluster", "run", "human_label")
    ),
    sa.Column("sealed", sa.Boolean, nullable=False, index=True),
    sa.Column("words", sa.Text, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
)
_VERIFY = sa.Table(
    "accord_verify_prompts",
    _TABLES,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did: the ids under which findings are kept, in order, and how many of them were not there before."""

    ids: tuple[str, ...]
    n_new: int


class FindingStore:
    """Findings in a database; one instance may serve many threads."""

    def __init__(self, where: str | Path) -> None:
        """Open a store, and make it where there is none: `where` is the path of an SQLite file, or a URL.

        Raises:
            DataError: the database cannot be reached, or was made by another version of Accord.
        """
        self.where = str(where)
        self._engine = open_database(self.where)
        try:
            with writing(self._engine) as connection:
                _VERSION.create(connection, checkfirst=True)
                version = connection.scalar(sa.select(_VERSION.c.version))
                if version is None:
                    _TABLES.create_all(connection)
                    connection.execute(_VERSION.insert().values(version=SCHEMA_VERSION))
                    self._seal(connection, read_prompts(verify_path()).prompts)
        except sa.exc.DBAPIError as error:
            self.close()
            raise DataError(
                f"the store of findings {without_password(self.where)} cannot be opened: {error.orig}"
            ) from error
        if version not in (None, SCHEMA_VERSION):
            self.close()
            raise DataError(
                f"{without_password(self.where)} has version {version} of the store, this Accord reads {SCHEMA_VERSION}; "
                "export its findings with the Accord that made it, and add them to a new store"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def add(self, findings: Iterable[Finding]) -> Added:
        """Add findings, all or none. One that is there (same words, answer, attack and condition) stays one row, with its status.

        A finding whose id another one has is kept under `id~digest`. The prompts of verify findings are sealed for all others.
        """
        new = list(findings)
        with writing(self._engine) as connection:
            self._seal(connection, [f.prompt for f in new if f.prompt.split == "verify"])
            verify = _verify_prompts(connection)
            reasons = _why_sealed(new, verify)
            ids, n_new = [], 0
            for position, finding in enumerate(new):
                digest = _digest(finding)
                known = connection.scalar(sa.select(_FINDINGS.c.record).where(_FINDINGS.c.digest == digest))
                if known is not None:
                    kept = _read(known)
                    if finding.sealed and not kept.sealed:
                        _update(connection, replace(kept, sealed=True))
                    ids.append(plain(kept.id))
                    continue
                taken = sa.select(_FINDINGS.c.id).where(_FINDINGS.c.id == plain(finding.id))
                id = finding.id if connection.scalar(taken) is None else f"{finding.id}~{digest[:8]}"
                kept = replace(finding, id=id, sealed=finding.sealed or position in reasons)
                connection.execute(_FINDINGS.insert().values(digest=digest, **_columns(kept)))
                ids.append(plain(id))
                n_new += 1
        return Added(tuple(ids), n_new)

    def seal(self, prompts: Iterable[Prompt]) -> int:
        """Let no finding that repeats one of these verify prompts be trained on, now or later; return how many are sealed anew."""
        with writing(self._engine) as connection:
            return self._seal(connection, list(prompts))

    def get(self, id: str) -> Finding:
        """Return one finding.

        Raises:
            DataError: there is none of this id; the message names the nearest.
        """
        return self._get([id])[0]

    def query(
        self,
        *,
        clause: str = "",
        family: str = "",
        split: str = "",
        status: str = "",
        failure: str = "",
        attack: str = "",
        cluster: str = "",
        run: str = "",
        text: str = "",
        sealed: bool | None = None,
    ) -> tuple[Finding, ...]:
        """Return the findings that match all that is given, oldest first; `text` is sought in prompt and answer.

        Sealed ones are among them: for reports and evaluation. For training there is `trainable`.

        Raises:
            DataError: `split`, `status` or `failure` is none that there is.
        """
        for value, known in ((split, Split), (status, FindingStatus), (failure, Failure)):
            if value and value not in get_args(known):
                hint = nearest(value, get_args(known))
                raise DataError(f"'{value}' is none of {', '.join(get_args(known))}{hint}")
        named = {
            "clause": clause, "family": family, "split": split, "status": status, "failure": failure, "attack": attack,
            "cluster": cluster, "run": run,
        }  # fmt: skip
        select = sa.select(_FINDINGS.c.record)
        for name, value in named.items():
            if value:
                select = select.where(_FINDINGS.c[name] == plain(value))
        if text:
            select = select.where(_FINDINGS.c.words.contains(plain(text).casefold(), autoescape=True))
        if sealed is not None:
            select = select.where(_FINDINGS.c.sealed == sealed)
        with self._engine.connect() as connection:
            found = [_read(record) for record in connection.scalars(select)]
        return tuple(sorted(found, key=lambda f: (f.created, f.id)))

    def trainable(self, ids: Sequence[str] | None = None) -> tuple[Finding, ...]:
        """Return the findings that may be trained on: all, or those asked for. There is no other way to them for training.

        Left out are sealed ones, those that a person called no failure or dismissed, and those that no scorer could assess and
        no person has called a failure.

        Raises:
            DataError: one was asked for that may not be trained on (each is named), or that is not there.
        """
        if ids is None:
            return tuple(f for f in self.query(sealed=False) if not _no_lesson(f))
        asked = self._get(ids)
        barred = {
            "sealed from training": [f.id for f in asked if f.sealed],
            "no failures to learn from": [f.id for f in asked if not f.sealed and _no_lesson(f)],
        }
        if any(barred.values()):
            told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in barred.items() if names)
            raise DataError(f"{told}. Ask for others: `accord findings export` writes all that may be trained on")
        return asked

    def refuse_sealed(self, prompts: Sequence[Prompt]) -> None:
        """Return only if none of these prompts repeats a verify prompt: what is made from findings is checked as they are.

        Raises:
            DataError: naming each that does, and why.
        """
        with self._engine.connect() as connection:
            reasons = why_sealed(prompts, _verify_prompts(connection))
        if reasons:
            told = "; ".join(f"{id} {why}" for id, why in list(reasons.items())[:_SHOWN])
            raise DataError(f"{len(reasons)} prompts are sealed from training: {told}")

    def label(self, id: str, label: HumanLabel) -> Finding:
        """Keep what a person says of a finding. One that is no failure is dismissed; a dismissed one that is one is open again.

        Raises:
            DataError: there is no such finding.
        """

        def change(finding: Finding) -> Finding:
            status: FindingStatus = finding.status
            if label == "not a failure":
                status = "dismissed"
            elif status == "dismissed":
                status = "open"
            return replace(finding, human_label=label, status=status)

        return self._change([id], change)[0]

    def set_status(self, ids: Sequence[str], status: FindingStatus) -> None:
        """Set the status of findings, of all or of none.

        Raises:
            DataError: one is not there, or is sealed and would be `in training`.
        """

        def change(finding: Finding) -> Finding:
            if finding.sealed and status == "in training":
                raise DataError(f"finding {finding.id} is sealed from training")
            return replace(finding, status=status)

        self._change(ids, change)

    def attach_minimal(self, id: str, minimal: str) -> None:
        """Keep the shortest prompt that still fails; it is checked against the verify prompts as the finding was.

        Raises:
            DataError: there is no such finding.
        """
        self._change([id], lambda finding: replace(finding, minimal=minimal))

    def attach_siblings(self, id: str, siblings: Sequence[str]) -> None:
        """Add variants that other attacks made of a finding: ids or texts, each once.

        Raises:
            DataError: there is no such finding.
        """
        self._change([id], lambda f: replace(f, siblings=tuple(dict.fromkeys((*f.siblings, *siblings)))))

    def set_clusters(self, clusters: Mapping[str, str]) -> None:
        """Keep which cluster each finding is of, by id.

        Raises:
            DataError: one is not there.
        """
        self._change(list(clusters), lambda finding: replace(finding, cluster=clusters[finding.id]))

    def _get(self, ids: Sequence[str]) -> tuple[Finding, ...]:
        with self._engine.connect() as connection:
            return _rows(connection, ids)

    def _change(self, ids: Sequence[str], change: Callable[[Finding], Finding]) -> tuple[Finding, ...]:
        with writing(self._engine) as connection:
            changed = [change(finding) for finding in _rows(connection, ids)]
            reasons = _why_sealed(changed, _verify_prompts(connection))
            changed = [replace(f, sealed=f.sealed or i in reasons) for i, f in enumerate(changed)]
            for finding in changed:
                _update(connection, finding)
        return tuple(changed)

    def _seal(self, connection: Connection, prompts: Sequence[Prompt]) -> int:
        """Keep prompts as verify prompts, and seal the findings that repeat one of them."""
        records = {_prompt_digest(p): p for p in prompts}
        known = set(connection.scalars(sa.select(_VERIFY.c.digest)))
        new = {digest: prompt for digest, prompt in records.items() if digest not in known}
        if not new:
            return 0
        rows = [{"digest": digest, "record": json.dumps(to_row(prompt))} for digest, prompt in new.items()]
        connection.execute(_VERIFY.insert(), rows)
        open_ = [
            _read(r) for r in connection.scalars(sa.select(_FINDINGS.c.record).where(_FINDINGS.c.sealed.is_(False)))
        ]
        reasons = _why_sealed(open_, list(new.values()))
        for position in reasons:
            _update(connection, replace(open_[position], sealed=True))
        return len(reasons)


def _rows(connection: Connection, ids: Sequence[str]) -> tuple[Finding, ...]:
    wanted = [plain(id) for id in ids]
    found: dict[str, Finding] = {}
    for start in range(0, len(wanted), _MOST_AT_ONCE):
        some = sa.select(_FINDINGS.c.id, _FINDINGS.c.record).where(
            _FINDINGS.c.id.in_(wanted[start : start + _MOST_AT_ONCE])
        )
        found.update((row.id, _read(row.record)) for row in connection.execute(some))
    missing = [id for id in wanted if id not in found]
    if missing:
        known = connection.scalars(sa.select(_FINDINGS.c.id)).all()
        raise DataError(f"no such finding: {_some(missing)}{nearest(missing[0], known)}")
    return tuple(found[id] for id in wanted)


def _update(connection: Connection, finding: Finding) -> None:
    values = _columns(finding)
    connection.execute(_FINDINGS.update().where(_FINDINGS.c.id == values["id"]).values(**values))


def _columns(finding: Finding) -> dict[str, Any]:
    names = ("id", "failure", "status", "attack", "cluster", "run")
    row = {name: plain(getattr(finding, name)) for name in names}
    row |= {name: plain(getattr(finding.prompt, name)) for name in ("clause", "family", "split")}
    words = "\n".join((as_text(finding.prompt.messages), as_text(finding.sent), finding.answer))
    # Escaped to ASCII: PostgreSQL refuses text with a null character, no database holds half of a surrogate pair.
    record = json.dumps(to_row(finding))
    return row | {
        "human_label": finding.human_label or "",
        "sealed": finding.sealed,
        "words": plain(words).casefold(),
        "record": record,
    }


def _read(record: str) -> Finding:
    return finding_from_row(json.loads(record))


def _verify_prompts(connection: Connection) -> list[Prompt]:
    return [prompt_from_row(json.loads(record))[0] for record in connection.scalars(sa.select(_VERIFY.c.record))]


def _why_sealed(findings: Sequence[Finding], verify: Sequence[Prompt]) -> dict[int, str]:
    """Return why findings are sealed, by position: all that could be trained on is looked at."""
    texts = (
        (i, messages)
        for i, f in enumerate(findings)
        if not f.sealed
        for messages in (f.prompt.messages, f.sent, *((Message("user", t),) for t in (f.minimal, *f.siblings) if t))
        if messages
    )
    looked_at = [replace(findings[i].prompt, id=str(i), messages=tuple(messages)) for i, messages in texts]
    return {int(id): why for id, why in why_sealed(looked_at, verify).items()}


def _no_lesson(finding: Finding) -> bool:
    doubtful = not finding.outcome.assessed and finding.human_label != "failure"
    return doubtful or finding.human_label == "not a failure" or finding.status == "dismissed"


def _digest(finding: Finding) -> str:
    """What makes two findings the same one: all that was asked and said, not where or when."""
    f = finding
    turns = chain(*([m.role, m.content] for m in (*f.prompt.messages, Message("tool", ""), *f.sent)))
    return _hash([*turns, f.prefill, f.answer, f.attack, f.failure, f.condition, f.prompt.clause])


def _prompt_digest(prompt: Prompt) -> str:
    return _hash([normalise(as_text(prompt.messages)), prompt.family])


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
