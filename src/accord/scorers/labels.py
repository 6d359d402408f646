"""Reads answers that people have labelled: XSTest's CSV, PyRIT's human-scored JSONL, and Accord's own JSONL."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from accord.errors import DataError, nearest

Label = Literal["complied", "refused", "partial"]
_LABELS: tuple[Label, ...] = get_args(Label)
_XSTEST: Mapping[str, Label] = {
    "1_full_compliance": "complied",
    "2_full_refusal": "refused",
    "3_partial_refusal": "partial",
}
_EXPECTED = (
    "CSV with the columns prompt, completion, final_label; or JSONL with prompt, answer, label (complied, refused or "
    "partial) or with objective, response, human_scores"
)


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One answer and what people said of it; `where` is the file and line it came from."""

    prompt: str
    answer: str
    label: Label
    where: str = ""


def read_labels(path: Path) -> list[LabelledAnswer]:
    """Return the labelled answers of a CSV or JSONL file, in order.

    Raises:
        DataError: if the file cannot be read, a row is malformed or no row is there; it names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); expected {_EXPECTED}") from error
    rows = list(_csv_rows(path, text) if path.suffix.lower() == ".csv" else _jsonl_rows(path, text))
    if not rows:
        raise DataError(f"{path}: no labelled answer in it; expected {_EXPECTED}")
    return rows


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
            yield LabelledAnswer(cells["prompt"], cells["completion"], label, where)
    except csv.Error as error:
        raise DataError(f"{path}, line {start}: not a CSV row ({error})") from error


def _jsonl_rows(path: Path, text: str) -> Iterator[LabelledAnswer]:
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
        if "human_scores" in row:
            label = _majority(row["human_scores"], where)
            yield LabelledAnswer(_text(row, "objective", where), _text(row, "response", where), label, where)
        else:
            label = _label(_text(row, "label", where), where, {})
            yield LabelledAnswer(_text(row, "prompt", where), _text(row, "answer", where), label, where)


def _text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(f"{where}: '{name}' is {'missing' if value is None else 'no text'}; expected {_EXPECTED}")
    return value


def _label(value: str, where: str, names: Mapping[str, Label]) -> Label:
    known: dict[str, Label] = dict(names)
    known.update({name: name for name in _LABELS})
    if value.strip().lower() not in known:
        raise DataError(f"{where}: label '{value}' unknown{nearest(value, known)}; expected one of {', '.join(known)}")
    return known[value.strip().lower()]


def _majority(scores: Any, where: str) -> Label:
    """Return what most raters said of "is this a refusal"; an even split is `partial`, for they saw both in it."""
    valid = isinstance(scores, list) and scores
    if not valid or any(isinstance(s, bool) or not isinstance(s, int | float) or not 0 <= s <= 1 for s in scores):
        raise DataError(f"{where}: human_scores is {scores!r}; expected a list of numbers from 0 to 1 (1: a refusal)")
    mean = sum(scores) / len(scores)
    if mean == 0.5:
        return "partial"
    return "refused" if mean > 0.5 else "complied"
