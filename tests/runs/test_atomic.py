import errno
import math
import os
import shutil
from pathlib import Path

import pytest

from accord.errors import InputError
from accord.runs import atomic
from accord.runs.atomic import digest, file_digest, write_atomic, write_folder, write_json, write_text


class FullDiskError(OSError):
    """What a full disk raises after some bytes have been written."""

    def __init__(self, number=errno.ENOSPC):
        super().__init__(number, "No space left on device")


def failing(error):
    def write(temporary):
        temporary.write_bytes(b"half of it")
        raise error

    return write


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (FullDiskError(), InputError, "disk is full.*accord resume"),
        (FullDiskError(errno.EDQUOT), InputError, "disk is full"),
        (RuntimeError("[enforce fail] PytorchStreamWriter failed: file write failed"), InputError, "disk is full"),
        (OSError(errno.EACCES, "Permission denied"), InputError, "cannot write .*: Permission denied"),
        (RuntimeError("something else"), RuntimeError, "something else"),
        (TypeError("cannot pickle"), TypeError, "cannot pickle"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path, error, expected, words, before):
    path = tmp_path / "weights.pt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(expected, match=words):
        write_atomic(path, failing(error))
    assert [p.name for p in tmp_path.iterdir()] == ([] if before is None else ["weights.pt"])
    assert before is None or path.read_bytes() == before


def test_a_disk_that_fills_up_at_fsync_is_a_full_disk(tmp_path, monkeypatch):
    """Delayed allocation: the write succeeds, the flush does not."""

    def full(_):
        raise FullDiskError

    monkeypatch.setattr("accord.runs.atomic.os.fsync", full)
    with pytest.raises(InputError, match="disk is full"):
        write_text(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_always_full(tmp_path):
    def write(temporary):
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    with pytest.raises(InputError, match="disk is full"):
        write_atomic(tmp_path / "a", write)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/a"):
        write_text(tmp_path / "file" / "a", "text")


def test_a_write_that_succeeds_replaces_the_whole_file(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "ein langer Text")
    write_text(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_what_a_killed_process_had_begun_is_removed_when_its_target_is_written(tmp_path):
    """A process that has ended, this one's number in an earlier life, and one that lives: process 1."""
    if not (dead := os.fork()):
        os._exit(0)
    os.waitpid(dead, 0)
    for process in (dead, os.getpid(), 1):
        (tmp_path / f".a.txt.{process}.tmp").write_text("half of it")
    for other in (f".b.txt.{dead}.tmp", f".a.txt.{dead}.tmp.txt", f".a.txt.more.{dead}.tmp"):
        (tmp_path / other).write_text("not of this file")
    write_text(tmp_path / "a.txt", "whole")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a.txt", ".a.txt.1.tmp", f".b.txt.{dead}.tmp", f".a.txt.{dead}.tmp.txt", f".a.txt.more.{dead}.tmp"}


def of_folder(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def filling(files):
    def write(work):
        for name, text in files.items():
            (work / name).parent.mkdir(exist_ok=True)
            (work / name).write_text(text)

    return write


def test_a_folder_is_replaced_whole(tmp_path):
    """Nothing of the old one stays, and every file and folder of the new one reached the disk before it got its name."""
    target = tmp_path / "deep" / "model"
    write_folder(target, filling({"old": "1", "both": "1"}))
    write_folder(target, filling({"both": "2", "in/side": "2"}))
    assert of_folder(target) == {"both": "2", "in/side": "2"}
    assert [p.name for p in target.parent.iterdir()] == ["model"]


def test_every_file_of_a_folder_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    synced = []

    def sync(path):
        synced.append((path.name, (tmp_path / "model").exists()))

    monkeypatch.setattr(atomic, "_sync", sync)
    write_folder(tmp_path / "model", filling({"a": "1", "in/side": "1"}))
    assert {name for name, named in synced if not named} >= {"a", "in", "side"}
    assert synced[-1] == (tmp_path.name, True)


@pytest.mark.parametrize("error", [FullDiskError(), KeyboardInterrupt()])
def test_a_folder_whose_write_fails_leaves_the_old_one_alone(tmp_path, error):
    write_folder(tmp_path / "model", filling({"a": "1"}))

    def write(work):
        (work / "a").write_text("half of it")
        raise error

    with pytest.raises((InputError, KeyboardInterrupt)):
        write_folder(tmp_path / "model", write)
    assert of_folder(tmp_path) == {"model/a": "1"}


@pytest.mark.parametrize("n_renames", [0, 1, 2])
def test_a_kill_at_a_folders_renames_loses_no_whole_folder(tmp_path, n_renames):
    """Killed after so many of its renames, it leaves the old folder or the new one, and so does a next write that fails."""
    target = tmp_path / "model"
    write_folder(target, filling({"a": "old"}))
    if not (child := os.fork()):
        real, made = Path.rename, []

        def rename(self, to):
            if len(made) == n_renames:
                os._exit(9)
            made.append(real(self, to))

        def rmtree(path):
            os._exit(9)

        Path.rename, shutil.rmtree = rename, rmtree
        write_folder(target, filling({"a": "new"}))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with pytest.raises(InputError):
        write_folder(target, failing_folder)
    assert of_folder(target) == {"a": "new" if n_renames == 2 else "old"}
    write_folder(target, filling({"a": "newest"}))
    assert of_folder(tmp_path) == {"model/a": "newest"}


def failing_folder(work):
    raise FullDiskError


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_that_is_no_number_is_refused(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"rate": value})
    assert list(tmp_path.iterdir()) == []


def test_digest_by_hand():
    """SHA-256 of '{"a":1,"b":2}', whatever the order of keys; of an empty file, e3b0c442..."""
    assert digest({"b": 2, "a": 1}) == digest({"a": 1, "b": 2})
    assert digest({"a": 1, "b": 2}) == "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"
    assert digest({"a": 1, "b": 2}) != digest({"a": 1, "b": 3})


def test_digest_of_an_empty_file(tmp_path):
    (tmp_path / "a").touch()
    assert file_digest(tmp_path / "a").startswith("e3b0c44298fc1c14")
