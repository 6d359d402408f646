"""Reads answers that people have labelled: XSTest's CSV, PyRIT's human-scored JSONL, and Accord's own JSONL.

Each file answers one question: was the request refused, was the objective achieved, is the answer harmful.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from accord.errors import DataError, nearest
from accord.types import Kind, Message, Transcript

Question = Literal["refusal", "objective", "harm"]
QUESTIONS: tuple[Question, ...] = get_args(Question)
Label = Literal["complied", "refused", "partial", "yes", "no"]
YES: Mapping[Question, Label] = {"refusal": "refused", "objective": "yes", "harm": "yes"}
NO: Mapping[Question, Label] = {"refusal": "complied", "objective": "no", "harm": "no"}
_XSTEST: Mapping[str, Label] = {
    "1_full_compliance": "complied",
    "2_full_refusal": "refused",
    "3_partial_refusal": "partial",
}
_KINDS: tuple[Kind, ...] = get_args(Kind)
_RATING: Mapping[Label, float] = {"complied": 0.0, "partial": 0.5, "refused": 1.0, "no": 0.0, "yes": 1.0}
_EXPECTED = (
    "CSV with the columns prompt, completion, final_label; or JSONL with prompt, answer, label (complied, refused or "
    "partial; for other questions yes or no) or with objective, response, human_scores"
)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One answer and what people said of it; `where` is the file and line it came from.

    `ratings` are what each of several people said, from 0 (no) to 1 (yes); empty where only their verdict is known. `score` is
    what was said on average, by one person too; None where only a verdict is known. `strata` says, by kind (source set, hazard,
    attack), where the row belongs. `kind` and `clause` are those of the prompt: a judge by rubric is asked by them.
    """

    prompt: str
    answer: str
    label: Label
    where: str = ""
    ratings: tuple[float, ...] = ()
    strata: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None
    kind: Kind = "harmful"
    clause: str = ""

    @property
    def extent(self) -> float:
        """How far the answer is a yes, from 0 to 1: the mean score, or the verdict's own number."""
        return _RATING[self.label] if self.score is None else self.score

    @property
    def transcript(self) -> Transcript:
        """What a scorer is shown of it."""
        return Transcript((Message("user", self.prompt),), self.answer, self.kind, self.clause)


def rated(question: Question, rating: float) -> Label:
    """Return the label that one person's rating is: for a refusal one half is "partial", else it is yes from one half on."""
    if question == "refusal" and rating == 0.5:
        return "partial"
    return YES[question] if rating >= 0.5 else NO[question]


def read_labels(path: Path, question: Question = "refusal") -> list[LabelledAnswer]:
    """Return the labelled answers of a CSV or JSONL file (`.gz` too), in order.

    XSTest's CSV answers the question of refusal only; `human_scores` answer the one that is asked, 1 being yes.

    Raises:
        DataError: if the file cannot be read, a row is malformed or no row is there; it names the file and the line.
    """
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); expected {_EXPECTED}") from error
    is_csv = path.name.lower().removesuffix(".gz").endswith(".csv")
    if is_csv and question != "refusal":
        raise DataError(
            f"{path}: a CSV of XSTest's form says what was refused, not what the question '{question}' asks"
        )
    rows = list(_csv_rows(path, text) if is_csv else _jsonl_rows(path, text, question))
    if not rows:
        raise DataError(f"{path}: no labelled answer in it; expected {_EXPECTED}")
    return rows


def holds_labels(row: Mapping[str, Any]) -> bool:
    """Say whether a row of JSON is a labelled answer, as `read_labels` reads them, and no comparison."""
    return "human_scores" in row or {"answer", "label"} <= row.keys()


def as_examples(rows: Sequence[LabelledAnswer]) -> tuple[list[Transcript], list[bool]]:
    """Return what a classifier is trained on: transcripts, and whether each complied (of other questions: yes).

    What people called partial is left out: they saw both in it.
    """
    kept = [row for row in rows if row.label != "partial"]
    return [row.transcript for row in kept], [row.label in ("complied", "yes") for row in kept]


def _csv_rows(path: Path, text: str) -> Iterator[LabelledAnswer]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in ("prompt", "completion", "final_label") if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}, line 1: no column {', '.join(missing)}; expected {_EXPECTED}")
    start = reader.line_num + 1
    try:
        for row in reader:
            where, start = f"{path}, line {start}", reader.line_num + 1
            # A short row leaves None in its missing cells.
            cells = {name: _text(row, name, where) for name in ("prompt", "completion", "final_label")}
            label = _label(cells["final_label"], where, _XSTEST)
            said = [row[name] for name in ("annotation_1", "annotation_2") if row.get(name)]
            # A person's own note may be in other words than the final label's; only the label must be known.
            ratings = tuple(_RATING[_XSTEST[a]] for a in said if a in _XSTEST)
            strata = {"set": path.stem, "hazard": row.get("type") or "none given"}
            yield LabelledAnswer(cells["prompt"], cells["completion"], label, where, ratings, strata)
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: not a CSV row ({error})") from error


def _jsonl_rows(path: Path, text: str, question: Question) -> Iterator[LabelledAnswer]:
    # Not str.splitlines: it also cuts at U+2028 and its like, which JSON strings may hold.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: not JSON ({error}); expected {_EXPECTED}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: a {type(row).__name__}, not an object; expected {_EXPECTED}")
        # A row that names no stratum is in none: that is not a stratum of its own.
        named = {
            "set": row.get("set"),
            "hazard": row.get("harm_category", row.get("hazard")),
            "attack": row.get("attack"),
        }
        strata = {kind: name.lower() for kind, name in named.items() if isinstance(name, str)}
        if "human_scores" in row:
            ratings = _scores(row["human_scores"], where)
            label = _majority(ratings, question)
            prompt, answer = _text(row, "objective", where), _text(row, "response", where)
            several, score = ratings if len(ratings) > 1 else (), sum(ratings) / len(ratings)
            yield LabelledAnswer(prompt, answer, label, where, several, strata, score, *_scope(row, where))
        else:
            label = _label(_text(row, "label", where), where, {}, question)
            prompt, answer = _text(row, "prompt", where), _text(row, "answer", where)
            yield LabelledAnswer(prompt, answer, label, where, (), strata, None, *_scope(row, where))


def _scope(row: Mapping[str, Any], where: str) -> tuple[Kind, str]:
    """Return the kind of the row's prompt, harmful unless it says so, and its clause, none unless it says so."""
    given, clause = row.get("kind", "harmful"), row.get("clause", "")
    kind = next((known for known in _KINDS if known == given), None)
    if kind is None:
        raise DataError(f"{where}: kind {given!r} unknown; expected one of {', '.join(_KINDS)}")
    if not isinstance(clause, str):
        raise DataError(f"{where}: 'clause' is {clause!r:.60}; expected the id of a clause of the policy")
    return kind, clause


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' is {'missing' if value is None else 'no text'}; expected {_EXPECTED}")
    return value


def _label(value: str, where: str, names: Mapping[str, Label], question: Question = "refusal") -> Label:
    known: dict[str, Label] = dict(names)
    own: tuple[Label, ...] = ("complied", "refused", "partial") if question == "refusal" else ("yes", "no")
    known.update({name: name for name in own})
    if value.strip().lower() not in known:
        raise DataError(f"{where}: label '{value}' unknown{nearest(value, known)}; expected one of {', '.join(known)}")
    return known[value.strip().lower()]


def _scores(scores: Any, where: str) -> tuple[float, ...]:
    valid = isinstance(scores, list) and scores
    if not valid or any(isinstance(s, bool) or not isinstance(s, int | float) or not 0 <= s <= 1 for s in scores):
        raise DataError(f"{where}: human_scores is {scores!r}; expected a list of numbers from 0 to 1 (1: yes)")
    return tuple(float(s) for s in scores)


def _majority(ratings: tuple[float, ...], question: Question) -> Label:
    """Return what most raters said; of a refusal an even split is `partial`, for they saw both in it."""
    return rated(question, sum(ratings) / len(ratings))
