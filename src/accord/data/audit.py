"""All checks of a training file in one report, before any training is paid for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from accord.data.checks import Flaw
from accord.data.contamination import Embed, overlaps
from accord.data.examples import ExampleFile, FileKind
from accord.data.flaws import (
    CODES,
    Severity,
    label_balance,
    labels,
    length_bias,
    longer_chosen,
    of_tokens,
    private,
    repeated,
)
from accord.data.jsonl import refuse
from accord.errors import SettingsError, nearest
from accord.models.chat import ChatFormat
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class CodeFlaws:
    """All flaws of one code: how severe they are together, and whether the user allows them."""

    code: str
    severity: Severity
    allowed: bool
    flaws: tuple[Flaw, ...]

    @property
    def refused(self) -> bool:
        """Whether training should not begin."""
        return self.severity == "error" and not self.allowed


@dataclass(frozen=True, slots=True)
class Audit:
    """What a file holds and what is wrong with it, errors first."""

    kind: FileKind
    n_rows: int
    n_usable: int
    labels: Mapping[str, int]
    longer_chosen: Estimate | None
    flaws: tuple[CodeFlaws, ...]
    n_compared: Mapping[str, int]
    meaning_compared: bool

    @property
    def refused(self) -> tuple[str, ...]:
        """The codes for which training should not begin."""
        return tuple(f.code for f in self.flaws if f.refused)


def audit(
    file: ExampleFile,
    chat: ChatFormat,
    window: int,
    against: Mapping[str, ExampleFile],
    embed: Embed | None = None,
    allow: Collection[str] = (),
) -> Audit:
    """Check a file: each row, the file as a whole, and against evaluation files, by their names.

    Raises:
        SettingsError: `allow` names a code that does not exist.
        DataError: an evaluation file has rows that cannot be read, so that nothing could be said of them.
    """
    unknown = [f"'{code}'{nearest(code, CODES)}" for code in allow if code not in CODES]
    if unknown:
        raise SettingsError(f"no such code: {', '.join(unknown)}; the codes are {', '.join(CODES)}")
    for name, evaluation in against.items():
        refuse(name, [(u.line, u.message) for u in evaluation.unusable])
    counts = labels(file.examples)
    longer = longer_chosen(e.answers for e in file.examples) if file.kind == "comparisons" else None
    flaws = [
        *file.unusable,
        *repeated(file.examples),
        *of_tokens(file.examples, chat, window),
        *private(file.examples),
        *label_balance(counts if file.kind == "ratings" else {}),
        *(length_bias(longer) if longer else ()),
    ]
    for name, evaluation in against.items():
        flaws += [
            Flaw("contamination", o.line, f"{name}:{o.evaluated}: {o.how}")
            for o in overlaps(file.examples, evaluation.examples, embed)
        ]
    return Audit(
        file.kind,
        file.n_rows,
        len(file.examples),
        dict(counts),
        longer,
        _by_code(flaws, allow),
        {name: len(evaluation.examples) for name, evaluation in against.items()},
        bool(against) and embed is not None,
    )


def _by_code(flaws: Sequence[Flaw], allow: Collection[str]) -> tuple[CodeFlaws, ...]:
    found = []
    for code in CODES:
        own = tuple(sorted((f for f in flaws if f.code == code), key=lambda f: (f.line, f.message)))
        if own:
            found.append(CodeFlaws(code, CODES[code].severity, code in allow, own))
    return tuple(sorted(found, key=lambda f: f.severity))
