"""JSON lines, plain or gzipped, one object a row, each with its line number.

Rows are read one by one and never through a columnar schema, which would give every row the union of all keys.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from accord.errors import DataError

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object and the line of the file (from 1) that it stands on."""

    line: int
    data: dict[str, Any]


def read_rows(path: str | Path) -> list[Row]:
    """Return the objects of a `.jsonl` or `.jsonl.gz` file, in order; blank lines are skipped.

    Raises:
        DataError: if the file is missing, unreadable or without rows, or a line is no JSON object (file and line).
    """
    path = Path(path)
    rows: list[Row] = []
    faults: list[tuple[int, str]] = []
    try:
        with _open(path) as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    rows.append(Row(line, _object(text)))
                except DataError as error:
                    faults.append((line, str(error)))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a .jsonl or .jsonl.gz file") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or incomplete gzip file: {error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    refuse(path, faults)
    if not rows:
        raise DataError(f"{path}: the file has no rows; expected one JSON object a line")
    return rows


def refuse(path: str | Path, faults: Iterable[tuple[int, str]]) -> None:
    """Raise one DataError that lists the faults by file and line, the first 20 in full; do nothing if there are none.

    Raises:
        DataError: if there is any fault.
    """
    listed = sorted(faults)
    if not listed:
        return
    shown = "\n".join(f"{path}:{line}: {message}" for line, message in listed[:_SHOWN])
    rest = f"\n… and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    raise DataError(shown + rest)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line (gzipped where the name ends in `.gz`) and return how many.

    The file appears whole or not at all: it is written beside its place and moved there.

    Raises:
        DataError: if a row holds what JSON cannot.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with _create(beside, gzipped=path.suffix == ".gz") as file:
            for row in rows:
                file.write(_dump(row, path, count + 1) + "\n")
                count += 1
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _dump(row: Mapping[str, Any], path: Path, line: int) -> str:
    try:
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}:{line}: the row cannot be written as JSON: {error}") from None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, which a model cut short can leave: keep it, escaped
        text = json.dumps(row, allow_nan=False)
    return text


def _open(path: Path) -> IO[str]:
    # utf-8-sig: files saved on Windows begin with a mark that is no part of the first row.
    return gzip.open(path, "rt", encoding="utf-8-sig") if path.suffix == ".gz" else path.open(encoding="utf-8-sig")


def _create(path: Path, gzipped: bool) -> IO[str]:
    return gzip.open(path, "wt", encoding="utf-8") if gzipped else path.open("w", encoding="utf-8", newline="\n")


def _object(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise DataError(f"not valid JSON at column {error.colno}: {error.msg}; expected one object a line") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not readable JSON: {error}") from None
    if not isinstance(data, dict):
        raise DataError(f'the line is a JSON {type(data).__name__}; expected an object such as {{"messages": [...]}}')
    return data


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; JSON readers let a later key win, which hides one of two labels."""
    data = dict(pairs)
    if len(data) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key given twice: {', '.join(sorted({name for name in names if names.count(name) > 1}))}")
    return data


def numbered(rows: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """Give rows that come from no file the numbers 1, 2 and so on."""
    return (Row(line, dict(data)) for line, data in enumerate(rows, start=1))
