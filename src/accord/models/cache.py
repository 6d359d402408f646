"""Where Accord keeps what can be made again: converted weights, verdicts, calibrations. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return Accord's cache folder: `$ACCORD_CACHE`, else `$XDG_CACHE_HOME/accord`, else `~/.cache/accord`."""
    if path := os.environ.get("ACCORD_CACHE"):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "accord"
