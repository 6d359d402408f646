import errno
import math
import resource
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError, InputError
from accord.runs import tensors
from accord.runs.tensors import load_tensors, save_tensors


def test_tensors_come_back_with_the_same_bits(tmp_path):
    kept = {
        "w": torch.randn(3, 2),
        "b": torch.randn(4).bfloat16(),
        "step": torch.tensor(3.0),
        "none": torch.zeros(0, 4),
        "turned": torch.arange(6).view(2, 3).T,
        "rng": torch.get_rng_state(),
    }
    save_tensors(tmp_path / "a.safetensors", kept)
    got = load_tensors(tmp_path / "a.safetensors")
    assert got.keys() == kept.keys()
    for name, tensor in kept.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor)


def test_a_tensor_alone(tmp_path):
    save_tensors(tmp_path / "a.safetensors", torch.tensor([1.0, 2.0]))
    assert load_tensors(tmp_path / "a.safetensors").tolist() == [1, 2]


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers(), st.text()), inner)
    ),
    max_leaves=12,
)


@given(plain)
def test_plain_containers_come_back_as_they_were(tmp_path_factory, value):
    """Keys that are numbers, tuples apart from lists, infinities, every digit of a float, a mapping named like a tag."""
    path = tmp_path_factory.mktemp("plain") / "a.safetensors"
    save_tensors(path, {"value": value, "tensor": {"mapping": value}})
    assert repr(load_tensors(path)) == repr({"value": value, "tensor": {"mapping": value}})


def test_not_a_number_stays_one(tmp_path):
    """A skipped step's loss."""
    save_tensors(tmp_path / "a.safetensors", [math.nan])
    assert math.isnan(load_tensors(tmp_path / "a.safetensors")[0])


def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path):
    with pytest.raises(TypeError, match="a set cannot be saved"):
        save_tensors(tmp_path / "a.safetensors", {"a": {1, 2}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"half of a file", (2).to_bytes(8, "little") + b"{}"])
def test_a_damaged_file_says_what_to_do(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.safetensors cannot be read .* remove the folder"):
        load_tensors(path)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="its stage is done again"):
        load_tensors(tmp_path / "a.safetensors")


def test_a_file_cut_short_is_damaged(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, torch.arange(100.0))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="cannot be read"):
        load_tensors(path)


def test_a_write_that_the_system_refuses_is_told_by_its_reason(tmp_path, monkeypatch):
    """safetensors hides the system's answer in its message: at a limit of 4 KiB a file, and on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    kept = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(InputError, match=r"cannot write .*too large"):
            save_tensors(tmp_path / "a.safetensors", torch.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, kept)
    assert list(tmp_path.iterdir()) == []

    def full(*_, **__):
        raise tensors.SafetensorError(f"I/O error: No space left on device (os error {errno.ENOSPC})")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(InputError, match="the disk is full"):
        save_tensors(tmp_path / "a.safetensors", torch.zeros(3))
