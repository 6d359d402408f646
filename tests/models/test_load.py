"""What names a model's weights."""

import hashlib

import pytest

from accord.models import load
from accord.models.load import fingerprint


@pytest.mark.parametrize("changed", [0, 3 << 20, (5 << 20) + 6])
def test_a_change_anywhere_in_the_weights_is_another_model(tmp_path, changed):
    """Also beyond the first MiB, where a fine-tuned model of the same shape differs."""
    weights = bytearray((5 << 20) + 7)
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights)
    before = fingerprint(tmp_path)
    weights[changed] ^= 1
    file.write_bytes(weights)
    assert fingerprint(tmp_path) != before
    weights[changed] ^= 1
    file.write_bytes(weights)
    assert fingerprint(tmp_path) == before


def test_of_a_large_file_blocks_are_read_from_end_to_end(tmp_path):
    """4 blocks of 2 bytes in 20: from 0, 6, 12 and 18."""
    file = tmp_path / "large"
    file.write_bytes(bytes(range(20)))
    digest = hashlib.sha256()
    load._read_into(digest, file, blocks=4, size=2)
    assert digest.hexdigest() == hashlib.sha256(bytes([0, 1, 6, 7, 12, 13, 18, 19])).hexdigest()
