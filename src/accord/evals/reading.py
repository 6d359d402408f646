"""Rows of other people's evaluation sets: CSV, JSON, JSON lines, a folder of such files, or a set on the hub (`hub:ID`)."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from accord.data.jsonl import read_rows, refuse
from accord.errors import DataError, SettingsError

HUB = "hub:"
_KINDS = (".csv", ".json", ".jsonl", ".jsonl.gz")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One row, where it stands, and the file's name without ending: the subtask, where a set has a file each."""

    file: str
    line: int
    data: dict[str, Any]
    stem: str

    def text(self, *names: str) -> str:
        """Return the text in the first of these columns that the row has.

        Raises:
            DataError: it has none of them, or no text there.
        """
        value = self.value(*names)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"'{names[0]}' is {value!r:.60}; expected text")
        return value.strip()

    def value(self, *names: str) -> Any:
        """Return what stands in the first of these columns that the row has.

        Raises:
            DataError: it has none of them.
        """
        for name in names:
            if name in self.data:
                return self.data[name]
        wanted, had = " or ".join(f"'{name}'" for name in names), ", ".join(map(str, self.data))
        raise DataError(f"no column {wanted}; the columns are: {had}")

    def optional(self, *names: str) -> str:
        """Return the text in the first of these columns that the row has, or an empty string."""
        return next((str(self.data[name]).strip() for name in names if self.data.get(name) is not None), "")


def source_rows(source: str, suite: str, header: bool = True) -> list[SourceRow]:
    """Return the rows of a suite's source: a file, a folder of files, or `hub:ID[:CONFIG][@SPLIT]` (split `test`).

    `header` False reads CSV without one: the columns are named "0", "1" and so on.

    Raises:
        SettingsError: no source was given.
        DataError: it cannot be read, or has no rows.
    """
    if not source:
        raise SettingsError(f"suite '{suite}' needs its data: --suite {suite}=FILE, or --suite {suite}=hub:ID")
    if source.startswith(HUB):
        return _from_hub(source)
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.name.endswith(_KINDS))
        if not files:
            raise DataError(f"{path}: no file that ends in {', '.join(_KINDS)}")
        return [row for file in files for row in _from_file(file, header)]
    return _from_file(path, header)


def converted(rows: Iterable[SourceRow], convert: Callable[[SourceRow], _T]) -> list[_T]:
    """Return each row as `convert` reads it.

    Raises:
        DataError: one message with file and line of every row that it refuses.
    """
    kept: list[_T] = []
    faults: dict[str, list[tuple[int, str]]] = {}
    for row in rows:
        try:
            kept.append(convert(row))
        except DataError as error:
            faults.setdefault(row.file, []).append((row.line, str(error)))
    for file, listed in faults.items():
        refuse(file, listed)
    return kept


def _from_file(path: Path, header: bool) -> list[SourceRow]:
    stem = path.name.split(".")[0]
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return [SourceRow(str(path), row.line, row.data, stem) for row in read_rows(path)]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a file that ends in {', '.join(_KINDS)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if path.suffix == ".json":
        rows = [SourceRow(str(path), i, row, stem) for i, row in enumerate(_json_list(path, text), start=1)]
    elif path.suffix == ".csv":
        rows = _csv_rows(path, text, stem, header)
    else:
        raise DataError(f"{path}: expected a file that ends in {', '.join(_KINDS)}")
    if not rows:
        raise DataError(f"{path}: the file has no rows")
    return rows


def _csv_rows(path: Path, text: str, stem: str, header: bool) -> list[SourceRow]:
    lines = text.splitlines(keepends=True)
    try:
        if header:
            reader = csv.DictReader(lines, strict=True)
            return [SourceRow(str(path), reader.line_num, dict(row), stem) for row in reader]
        plain = csv.reader(lines, strict=True)
        return [
            SourceRow(str(path), plain.line_num, {str(i): value for i, value in enumerate(row)}, stem) for row in plain
        ]
    except csv.Error as error:
        raise DataError(f"{path}: not readable as CSV: {error}") from None


def _json_list(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from None
    data = data.get("examples", data) if isinstance(data, dict) else data
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise DataError(f"{path}: expected a JSON list of objects")
    return data


def _from_hub(source: str) -> list[SourceRow]:
    from datasets import load_dataset

    name, _, split = source.removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    try:
        rows = load_dataset(name, config or None, split=split or "test")
    except Exception as error:  # the library raises errors of many libraries: network, parsing, unknown names
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise DataError(f"cannot read {source}: {type(error).__name__}: {first}") from error
    return [SourceRow(source, i, dict(row), name.split("/")[-1]) for i, row in enumerate(rows, start=1)]
