"""Two processes (gloo) give what one gives: losses, metrics and weights to 1e-5, in fp32 at the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import parallel_demo
import pytest
import torch

from accord.models.tree import Tree
from accord.train import parallel
from accord.train.parallel import share_of


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    out = tmp_path_factory.mktemp("parallel")
    driver = Path(parallel_demo.__file__)
    env = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": ":".join(p for p in [str(driver.parent), *sys.path] if p),
    }
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    found = {}
    for n in (1, 2):
        folder = out / str(n)
        folder.mkdir()
        done = subprocess.run(
            [*launch, str(n), driver, folder], env=env, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        found[n] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("problem", ["sft", "dpo", "kto"])
def test_two_processes_give_what_one_gives(both, problem):
    assert (both[1]["processes"], both[2]["processes"]) == (1, 2)
    one, two = both[1][problem], both[2][problem]
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-5)
    assert len(one["losses"]) > 6
    assert len(set(one["losses"])) > 3  # something was learned, so that gradients did count
    for a, b in zip(one["metrics"], two["metrics"], strict=True):
        assert a == pytest.approx(b, abs=1e-4)
    torch.testing.assert_close(torch.tensor(one["weights"]), torch.tensor(two["weights"]), atol=1e-5, rtol=1e-4)


def rows_of(n_processes, index, lengths, monkeypatch):
    state = type("State", (), {"num_processes": n_processes, "process_index": index})
    monkeypatch.setattr(parallel, "_state", lambda: state)
    trees = [Tree((0,) * n, ((1,),)) for n in lengths]
    return share_of(trees, range(len(trees)))


def test_rows_are_shared_out_by_their_positions_by_hand(monkeypatch):
    """Lengths 10, 2, 3, 4 (and one answer token each): 10 to the first, then 4, 3 and 2 to the second: 11 and 12 positions."""
    lengths = (10, 2, 3, 4)
    assert [rows_of(2, i, lengths, monkeypatch) for i in (0, 1)] == [[0], [1, 2, 3]]
    assert rows_of(1, 0, lengths, monkeypatch) == [0, 1, 2, 3]
    assert [rows_of(3, i, (5, 5), monkeypatch) for i in range(3)] == [[0], [1], []]
