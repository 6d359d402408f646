"""Rollouts on vLLM itself, which `make test-vllm` installs into an environment of its own and names in ACCORD_VLLM_PYTHON.

Whether an adapter has arrived is asserted on log-probabilities: text may be the same by chance.
"""

import json
import os
import socket
import subprocess
import time

import httpx
import pytest
import torch
from test_served import learner_of, shaken

from accord.models.chat import ChatFormat
from accord.models.load import load_model, starter_folder
from accord.models.sampling import Sampling
from accord.models.served import Servers
from accord.recipes.online_run import OnlineAsked, run_online
from accord.recipes.settings import TrainingSettings
from accord.train.samples import read_samples, step_file
from accord.train.served import Served
from accord.types import Message, Silent

PYTHON = os.environ.get("ACCORD_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="ACCORD_VLLM_PYTHON names no python that has vLLM; `make test-vllm`"),
    # PyTorch's compiler, which a model of this size is worth in this process, looks at what it warns of itself.
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
READY_S = 420


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a server of the starter model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("vllm-server")
    command = [
        *(
            PYTHON,
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            starter_folder(),
            "--served-model-name",
            "starter",
        ),
        *("--enable-lora", "--max-lora-rank", "16", "--logprobs-mode", "processed_logprobs", "--dtype", "float32"),
        *("--max-model-len", "1024", "--host", "127.0.0.1", "--port", str(port)),
    ]
    settings = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env={**inherited, **settings}, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
    try:
        deadline = time.monotonic() + READY_S
        while not _is_up(port):
            assert process.poll() is None, (folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-4000:]
            time.sleep(1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _is_up(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).is_success
    except httpx.HTTPError:
        return False


def names_at(url):
    return [row["id"] for row in httpx.get(f"{url}/models", timeout=10).json()["data"]]


def test_each_version_is_what_answers_and_the_one_before_is_gone(url, tmp_path):
    loaded = load_model("starter", "fp32")
    learner = learner_of(loaded, 8, 20)
    question = Message("user", "Name three things that one finds in a harbour, and say what each is for.")
    prompt = ChatFormat(loaded.tokenizer).prompt((question,))
    served = Served(Servers("starter", (url,)), learner, learner.model.save_pretrained, tmp_path / "served", prompt)
    served.send(0)
    first = served.generate([prompt] * 4, ["a", "b", "c", "a"], learner.end_ids, Sampling(24, 1.0))
    assert first[0] == first[3]
    assert len({r.ids for r in first[:3]}) > 1
    shaken(learner, scale=0.02)
    served.send(1)
    assert [n for n in names_at(url) if n != "starter"] == [served.name]
    rollouts = served.generate([prompt] * 3, ["a", "b", "c"], learner.end_ids, Sampling(24, 1.0))
    for rollout in rollouts:
        ids = torch.tensor([[*prompt, *rollout.ids]])
        with torch.no_grad():
            own = learner.model(ids).logits.float().log_softmax(-1)[0, len(prompt) - 1 : -1]
            with learner.reference():
                without = learner.model(ids).logits.float().log_softmax(-1)[0, len(prompt) - 1 : -1]
        taken = torch.tensor(rollout.ids)[:, None]
        told = torch.tensor(rollout.logps)
        off = (own.gather(1, taken)[:, 0] - told).abs().mean()
        off_without = (without.gather(1, taken)[:, 0] - told).abs().mean()
        assert off < 1e-3
        assert off_without > 20 * off
    served.close()
    assert names_at(url) == ["starter"]


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_run_samples_there_and_its_mismatch_is_small(url, tmp_path, ahead):
    prompts = tmp_path / "prompts.jsonl"
    texts = ("Where is the harbour?", "What is a lamp for?", "How does one cook rice?", "Why is the sea salty?")
    prompts.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    (tmp_path / "mine.py").write_text("def short(transcript):\n    return -float(len(transcript.answer))\n")
    asked = OnlineAsked(
        rewards=(f"{tmp_path / 'mine.py'}:short",), steps=3, prompts_per_step=4, group=4, max_new_tokens=24, temperature=0.8,
        rollouts=(f"openai:starter@{url}",), ahead=ahead,
    )  # fmt: skip
    settings = TrainingSettings(precision="fp32", rank=8, rows_per_step=4, first_layer=20, learning_rate=1e-4)
    facts, _, evidence = run_online("grpo", prompts, tmp_path / "run", asked, settings, Silent())
    assert (facts["steps"], facts["ended early"]) == (3, "no")
    for log in evidence.steps:
        # A server that told log-probabilities of another temperature would be far off.
        assert log.metrics["rl/mismatch"] < (0.02 if log.metrics["versions_behind"] else 0.001)
    versions = [{s.version for s in read_samples(step_file(tmp_path / "run/stages/grpo", step))} for step in range(3)]
    assert versions == ([{0}, {0}, {1}] if ahead else [{0}, {1}, {2}])
    assert names_at(url) == ["starter"]
