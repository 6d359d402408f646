import errno
import math

import pytest

from accord.errors import InputError
from accord.runs.atomic import digest, file_digest, write_atomic, write_json, write_text


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
