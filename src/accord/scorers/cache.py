"""Verdicts on disk: what a judge said of a text is looked up, not computed again. SQLite, safe for several processes."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from accord.models.cache import cache_dir

_CREATE = "CREATE TABLE IF NOT EXISTS verdict (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_AT_ONCE = 500  # SQLite's older limit of variables a statement is 999
_WAIT_S = 60.0


class VerdictCache:
    """Texts by key in one file, by default `verdicts.sqlite` in Accord's cache folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or cache_dir()) / "verdicts.sqlite"

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Return what is kept of these keys."""
        found: dict[str, str] = {}
        with closing(self._open()) as db:
            for start in range(0, len(keys), _AT_ONCE):
                part = list(keys[start : start + _AT_ONCE])
                places = ",".join("?" * len(part))
                found.update(db.execute(f"SELECT key, value FROM verdict WHERE key IN ({places})", part))
        return found

    def put(self, values: Mapping[str, str]) -> None:
        """Keep values, in one transaction."""
        with closing(self._open()) as db, db:
            db.executemany("INSERT OR REPLACE INTO verdict VALUES (?, ?)", list(values.items()))

    def _open(self) -> sqlite3.Connection:
        # A connection a call: what judges runs in whatever thread a batch is done in.
        self.path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.path, timeout=_WAIT_S)
        db.execute(_CREATE)
        return db


def key_of(*parts: str) -> str:
    """Return a hash of texts; where one ends and the next begins counts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
