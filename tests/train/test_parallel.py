"""Two processes (gloo), each with the whole model or with its part of each weight (FSDP2), give what one process gives.

Losses, metrics and weights to 1e-5, in fp32 at the same global batch.
"""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path

import parallel_demo
import pytest
import torch
from command_line import Forked
from safetensors.torch import load_file
from torch import nn

from accord.errors import SettingsError
from accord.models import sharded
from accord.models.sharded import as_fsdp2, sharding_asked
from accord.models.tree import Tree
from accord.train import parallel
from accord.train.offline import TrainSettings
from accord.train.parallel import share_of

# What `accelerate config` writes.
FSDP2 = """
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_reshard_after_forward: true
mixed_precision: 'no'
num_machines: 1
num_processes: 2
main_process_port: 0
use_cpu: true
"""
# What `accelerate launch` hands on of a deepspeed_config. Its launcher needs the package deepspeed, which nothing else here does.
ZERO3 = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}


# Layers that stay whole from their forward to their backward pass (ZeRO-2): what is handed on of such a configuration, and runs.
WHOLE = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "false",
    "ACCELERATE_USE_CPU": "true",
}
SOME = ("upper layers", "retained, full")
# The others wait for `make test-slow`: starting and spreading takes most of the time.
SPREAD = ("lora", "full", "reward", "served")


def launched(folder, names=()):
    """Run the problems as `accelerate launch` starts them, with a configuration file of its own format."""
    (folder / "fsdp2.yaml").write_text(FSDP2)
    driver = Path(parallel_demo.__file__)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            folder / "fsdp2.yaml",
            driver,
            folder,
            *names,
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": ":".join(p for p in [str(driver.parent), *sys.path] if p),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def forked(folder, n, names=(), **settings):
    """Run problems in `n` processes with the environment that a launcher gives them, and more settings of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(n)}
    started = [
        Forked(parallel_demo.main, folder, *names, env={**place, **settings, "RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(n)
    ]
    for process in started:
        assert process.wait(300).returncode == 0, process.stderr


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("parallel")
    kinds = {
        "one": partial(forked, n=1),
        "two": partial(forked, n=2),
        "spread": partial(launched, names=SPREAD),
        "kept whole": partial(forked, n=2, names=SOME, **WHOLE),
    }
    results = {}
    for name, run in kinds.items():
        folder = out / name
        folder.mkdir()
        run(folder)
        results[name] = json.loads((folder / "found.json").read_text()) | {"folder": folder}
    return results


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        *product(["two"], parallel_demo.PROBLEMS),
        *product(["spread"], SPREAD),
        *product(["kept whole"], SOME),
    ],
)
def test_two_processes_give_what_one_gives(found, kind, problem):
    assert (found["one"]["processes"], found[kind]["processes"]) == (1, 2)
    one, two = found["one"][problem], found[kind][problem]
    assert two["sharded"] == (kind != "two" and problem in parallel_demo.WHOLE_RUNS)
    hold_against(one, two, problem)


@pytest.mark.slow
def test_every_problem_with_spread_weights_gives_what_one_process_gives(tmp_path):
    for name, run in (("one", partial(forked, n=1)), ("spread", launched)):
        (tmp_path / name).mkdir()
        run(tmp_path / name)
    one, spread = (json.loads((tmp_path / name / "found.json").read_text()) for name in ("one", "spread"))
    for problem in parallel_demo.PROBLEMS:
        assert spread[problem]["sharded"] == (problem in parallel_demo.WHOLE_RUNS)
        hold_against(one[problem], spread[problem], problem)


def hold_against(one, two, problem):
    # 1e-5, or of losses in the tens, which fp32 itself resolves to 2e-6, as many of its steps.
    assert one["losses"] == pytest.approx(two["losses"], abs=1e-5, rel=1e-6)
    assert len(one["losses"]) >= 6
    assert len(set(one["losses"])) > 3  # something was learned, so that gradients did count
    for a, b in zip(one["metrics"], two["metrics"], strict=True):
        # An accuracy counts: where nothing tells two answers apart yet, rounding decides.
        assert {k: v for k, v in a.items() if "accuracy" not in k} == pytest.approx(
            {k: v for k, v in b.items() if "accuracy" not in k}, abs=1e-4, rel=1e-5
        )
    torch.testing.assert_close(torch.tensor(one["weights"]), torch.tensor(two["weights"]), atol=1e-5, rtol=1e-4)
    if problem in parallel_demo.RESUMED:
        assert one["resumed"]
        assert two["resumed"]


@pytest.mark.parametrize("problem", ["lora", "full", "reward"])
def test_what_is_saved_of_spread_weights_is_the_whole_model(found, problem):
    one, two = (
        {
            k: v
            for path in (found[kind]["folder"] / problem / "model").glob("*.safetensors")
            for k, v in load_file(path).items()
        }
        for kind in ("one", "spread")
    )
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_USE_FSDP": "false"}, "as_fsdp2"),
        ({"FSDP_VERSION": "1"}, "fsdp_version: 2"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params: false"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "--checkpointing"),
    ],
)
def test_other_ways_of_spreading_are_refused_with_what_to_do(asked, says, monkeypatch):
    for name, value in ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"} | asked).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        sharding_asked()


@pytest.mark.parametrize(
    ("stage", "spread", "reshard"),
    [("0", False, "false"), ("1", True, "false"), ("2", True, "false"), ("3", True, "true")],
)
def test_a_deepspeed_configuration_is_run_by_fsdp2(stage, spread, reshard, monkeypatch):
    given = {**ZERO3, "ACCELERATE_DEEPSPEED_ZERO_STAGE": stage, "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none"}
    for name, value in (as_fsdp2(given) | {"WORLD_SIZE": "2"}).items():
        monkeypatch.setenv(name, value)
    assert sharding_asked() is spread
    assert os.environ["FSDP_RESHARD_AFTER_FORWARD"] == reshard


def test_what_a_deepspeed_configuration_asks_beyond_spreading_is_refused():
    assert as_fsdp2({}) == {}
    for name, value, says in (
        ("OFFLOAD_OPTIMIZER_DEVICE", "cpu", "offload_optimizer_device: none"),
        ("OFFLOAD_PARAM_DEVICE", "nvme", "offload_param_device: none"),
        ("CONFIG_FILE", "ds.json", "zero_stage"),
    ):
        with pytest.raises(SettingsError, match=says):
            as_fsdp2({**ZERO3, f"ACCELERATE_DEEPSPEED_{name}": value})
    with pytest.raises(SettingsError, match=r"gradient_clipping: 1\.0"):
        as_fsdp2({**ZERO3, "ACCELERATE_GRADIENT_CLIPPING": "0.5"})


@pytest.mark.parametrize("clipping", [str(TrainSettings().max_grad_norm), "1", "none", "auto"])
def test_a_deepspeed_configuration_may_ask_for_the_clipping_that_runs_have(clipping):
    assert as_fsdp2({**ZERO3, "ACCELERATE_GRADIENT_CLIPPING": clipping}) == as_fsdp2(ZERO3)


def test_one_process_alone_spreads_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not sharding_asked()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sharding_asked()


def test_quantised_weights_are_not_spread(monkeypatch):
    monkeypatch.setattr(sharded, "is_quantised", lambda module: True)
    with pytest.raises(SettingsError, match="int8 and nf4"):
        sharded.shard(nn.Linear(1, 1), nn.ModuleList())


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
