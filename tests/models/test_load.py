"""What names a model's weights, and where they are read from again."""

import hashlib

import pytest
from huggingface_hub import constants
from tiny_llama import save, tiny

from accord.errors import ModelError
from accord.models import load
from accord.models.adapters import add_lora
from accord.models.load import base_of, fingerprint, load_model, published_name


@pytest.mark.parametrize("changed", [0, 3 << 20, (5 << 20) + 6])
def test_a_change_anywhere_in_the_weights_is_another_model(tmp_path, changed):
    """Also beyond the first MiB, where a fine-tuned model of the same shape differs."""
    weights = bytearray((5 << 20) + 7)
    (tmp_path / "config.json").write_text("{}")
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights)
    before = fingerprint(str(tmp_path))
    weights[changed] ^= 1
    file.write_bytes(weights)
    assert fingerprint(str(tmp_path)) != before
    weights[changed] ^= 1
    file.write_bytes(weights)
    assert fingerprint(str(tmp_path)) == before


def test_of_a_large_file_blocks_are_read_from_end_to_end(tmp_path):
    """4 blocks of 2 bytes in 20: from 0, 6, 12 and 18."""
    file = tmp_path / "large"
    file.write_bytes(bytes(range(20)))
    digest = hashlib.sha256()
    load._read_into(digest, file, blocks=4, size=2)
    assert digest.hexdigest() == hashlib.sha256(bytes([0, 1, 6, 7, 12, 13, 18, 19])).hexdigest()


def test_a_hub_models_organisation_and_commit_count(tmp_path, monkeypatch):
    """As `huggingface_hub` lays its cache out: what `main` was when the model was read stands in refs/main."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def read_at(commit):
        kept = tmp_path / "models--orga--judge"
        (kept / "refs").mkdir(parents=True, exist_ok=True)
        (kept / "refs" / "main").write_text(commit)
        (kept / "snapshots" / commit).mkdir(parents=True)
        (kept / "snapshots" / commit / "config.json").write_text("{}")
        return fingerprint("orga/judge")

    found = [fingerprint("orga/judge"), fingerprint("orgb/judge"), read_at("a" * 40), read_at("b" * 40)]
    assert len(set(found)) == 4
    assert fingerprint("orga/judge") == found[-1]


def test_a_commit_that_changes_no_weights_is_the_same_model(tmp_path, monkeypatch):
    """Files of a snapshot are links to blobs that are named by their hashes."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "models--orga--judge"
    (kept / "refs").mkdir(parents=True)
    (kept / "blobs").mkdir()

    def read_at(commit, weights, readme):
        (kept / "refs" / "main").write_text(commit)
        snapshot = kept / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for name, blob in (("config.json", "c0"), ("model.safetensors", weights), ("README.md", readme)):
            (kept / "blobs" / blob).write_text(blob)
            (snapshot / name).symlink_to(kept / "blobs" / blob)
        return fingerprint("orga/judge")

    first, same, other = (
        read_at(c * 40, *files) for c, *files in (("a", "w1", "r1"), ("b", "w1", "r2"), ("c", "w2", "r2"))
    )
    assert first == same != other


def test_an_adapter_that_names_no_base_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": null}')
    with pytest.raises(ModelError, match="does not name its base model"):
        load_model(str(tmp_path), "fp32")


def test_an_adapter_over_other_weights_is_another_model(tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(f'{{"base_model_name_or_path": "{tmp_path}/base"}}')
    (folder / "adapter_model.safetensors").write_bytes(b"adapter")
    base = save(tiny(), tmp_path / "base")
    before = fingerprint(str(folder))
    assert fingerprint(str(folder)) == before
    save(tiny(seed=1), base)
    assert fingerprint(str(folder)) != before


def test_an_adapter_trained_from_a_relative_path_loads_from_anywhere(tmp_path, monkeypatch):
    save(tiny(), tmp_path / "models" / "base")
    monkeypatch.chdir(tmp_path)
    loaded = load_model("models/base", "fp32")
    adapter = add_lora(loaded, 2, 0)
    adapter.peft_config["default"].base_model_name_or_path = published_name("models/base", loaded)
    adapter.save_pretrained("adapter", save_embedding_layers=False)
    loaded.tokenizer.save_pretrained("adapter")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_model("../adapter", "fp32").folder == str(tmp_path / "models" / "base")
    assert base_of(tmp_path / "adapter") == str(tmp_path / "models" / "base")
