"""Files and folders that appear whole or not at all: a temporary name in the same folder, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accord.errors import InputError


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file, then put it in `path`'s place.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with _beside(path) as temporary:
        write(temporary)
        _sync(temporary)
        temporary.replace(path)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, then put it in `path`'s place and remove the folder that was there.

    Raises:
        InputError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    before = path.with_name(f".{path.name}.before")
    with _beside(path) as temporary:
        # A kill between the two renames below.
        if before.exists() and not path.exists():
            before.rename(path)
        temporary.mkdir()
        write(temporary)
        for inside in (*temporary.rglob("*"), temporary):
            _sync(inside)
        _remove(before)
        # No rename replaces a folder that holds something.
        if path.exists():
            path.rename(before)
        temporary.rename(path)
        _sync(path.parent)
        _remove(before)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a temporary name in `path`'s folder, and make what was renamed meanwhile last; what bears the name still is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_by_kills(path)
        yield temporary
        _sync(path.parent)
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        # torch and safetensors report a failed write of a model's weights as errors of their own, without an errno.
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error) or "file write failed" in str(error):
            raise InputError(
                f"the disk is full: cannot write {path}; free some space and go on: the same command with the run's folder as "
                "--out, or `accord resume` after `accord align` and `accord redteam`"
            ) from error
        if isinstance(error, OSError):
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
        raise
    finally:
        # Also on Ctrl-C or a value that cannot be stored; where the folder itself is missing there is nothing to remove.
        with contextlib.suppress(OSError):
            _remove(temporary)


def _remove_left_by_kills(path: Path) -> None:
    """Remove what processes that are no more had begun to write in `path`'s place: nobody else would, and a checkpoint is large."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if process.isdigit() and not _lives_elsewhere(int(process)):
            _remove(left)


def _lives_elsewhere(process: int) -> bool:
    if process == os.getpid():  # in a container each run may have the same
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Make a file's bytes, or what was renamed in a folder, last through a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. NaN is refused: it is not JSON and no measurement."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON-able value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
