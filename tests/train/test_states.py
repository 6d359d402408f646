import os
from pathlib import Path

import pytest
import torch
from training_demo import lora, trees

from accord.models.adapters import scaled
from accord.models.tree import answer_states, collate
from accord.runs.tensors import load_tensors, save_tensors
from accord.train import states as states_module
from accord.train.states import freeze_states
from accord.types import Silent


@pytest.mark.parametrize("first_layer", [0, 2])
def test_the_kept_states_give_what_the_whole_model_gives(tmp_path, first_layer):
    model, rows = lora(first_layer, std=0.1), trees(9, 2)
    with scaled(model, 0):
        frozen = freeze_states(model, rows, first_layer, [i % 2 == 0 for i in range(9)], tmp_path, Silent())
        with torch.no_grad():
            base = [answer_states(model, collate([t])) for t in rows]
    batch, hidden = frozen.last_states(model, rows, [5, 0, 2])
    with torch.no_grad():
        plain = answer_states(model, collate([rows[i] for i in (5, 0, 2)]))
    torch.testing.assert_close(batch.predicting(hidden).detach(), plain, atol=1e-5, rtol=0)
    assert batch.n_answers == 6
    reference = frozen.reference([4, 0])
    torch.testing.assert_close(reference, torch.cat([base[4], base[0]]), atol=1e-5, rtol=0)
    assert sorted(frozen.last) == [0, 2, 4, 6, 8]
    assert sorted(frozen.entering) == (list(range(9)) if first_layer else [])


def test_shards_are_read_back_and_a_lost_one_alone_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setattr(states_module, "SHARD_TOKENS", 40)
    model, rows = lora(2, std=0.1), trees(9, 2)
    first = freeze_states(model, rows, 2, [True] * 9, tmp_path, Silent())
    shards = sorted(tmp_path.glob("states-*.safetensors"))
    assert len(shards) > 2
    shards[1].unlink()
    computed = []
    plain = states_module._shard
    monkeypatch.setattr(states_module, "_shard", lambda *a: computed.append(list(a[2])) or plain(*a))
    again = freeze_states(model, rows, 2, [True] * 9, tmp_path, Silent())
    assert len(computed) == 1
    for kept in ("entering", "last"):
        a, b = getattr(first, kept), getattr(again, kept)
        assert a.keys() == b.keys() == set(range(9))
        assert all(torch.equal(a[i], b[i]) for i in a)


def test_nothing_frozen_and_nothing_to_refer_to_costs_nothing(tmp_path):
    model, rows = lora(0), trees(3, 1)
    frozen = freeze_states(model, rows, 0, [False] * 3, tmp_path, Silent())
    assert not frozen.entering
    assert not frozen.last
    assert list(tmp_path.iterdir()) == []


def test_states_beyond_the_budget_are_not_kept_and_nothing_else_changes(tmp_path, monkeypatch):
    said = []

    class Saying(Silent):
        def say(self, line):
            said.append(line)

    model, rows = lora(2, std=0.1), trees(9, 2)
    kept = freeze_states(model, rows, 2, [True] * 9, tmp_path / "kept", Saying())
    assert not said
    # 32 numbers of 4 bytes a token.
    needed = sum(t.length for t in rows) * 32 * 4
    monkeypatch.setattr(states_module, "MOST_BYTES", needed - 1)
    without = freeze_states(model, rows, 2, [True] * 9, tmp_path / "without", Saying())
    assert "are run again in each pass" in said[0]
    assert len(said) == 1
    assert not without.entering
    assert without.last.keys() == kept.last.keys()

    def outcome(states):
        model.zero_grad()
        batch, hidden = states.last_states(model, rows, [5, 0, 2])
        (batch.predicting(hidden) ** 3).sum().backward()
        return hidden, *(p.grad.clone() for p in model.parameters() if p.requires_grad)

    for a, b in zip(outcome(kept), outcome(without), strict=True):
        torch.testing.assert_close(a[0], b[0], atol=1e-5, rtol=1e-5)


def test_kept_states_are_mapped_from_disk_and_not_read_into_memory(tmp_path):
    """512 MiB of a file, of which one page is looked at: the process grows by far less."""
    save_tensors(tmp_path / "states.safetensors", {0: torch.zeros(1 << 27)})

    def resident_mib():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20

    before = resident_mib()
    state = load_tensors(tmp_path / "states.safetensors")[0]
    assert state[12345] == 0
    assert resident_mib() - before < 64
