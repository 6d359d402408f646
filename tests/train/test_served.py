"""Rollouts on servers that speak vLLM's interface: which version answers, what is believed, and who is named when it fails."""

from functools import partial

import pytest
import torch
from tiny_llama import tiny
from torch import nn
from vllm_server import VLLM

from accord.errors import ModelError
from accord.models.adapters import add_lora, scaled
from accord.models.chat import ChatFormat
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.models.served import Servers
from accord.models.tree import head_weight
from accord.train.learner import Learner
from accord.train.served import Served


def shaken(learner, seed=1, scale=0.3):
    """Give the adapter weights, as training would."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in learner.model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=scale)


def learner_of(loaded, rank=4, first_layer=0):
    torch.manual_seed(0)
    model = add_lora(loaded, rank, first_layer).eval()
    chat = ChatFormat(loaded.tokenizer)
    return Learner(model, head_weight(model), partial(scaled, model, 0.0), chat.end_ids, chat.decode)


@pytest.fixture
def learner():
    return learner_of(tiny())


CANARY = tuple(range(5, 60))


def served_by(servers, learner, folder):
    return Served(servers, learner, learner.model.save_pretrained, folder, CANARY)


def test_a_version_is_loaded_under_its_own_name_and_the_one_before_is_unloaded(learner, tmp_path):
    with VLLM(tiny()) as server:
        served = served_by(Servers("tiny", (server.url,)), learner, tmp_path / "adapters")
        served.send(0)
        first = list(server.adapters)
        assert len(first) == 1
        shaken(learner)
        served.send(3)
        second = list(server.adapters)
        assert len(second) == 1
        assert second != first
        assert second[0].endswith("-3")
        n_calls = len(server.calls)
        served.send(3)
        assert len(server.calls) == n_calls  # it is there
        assert [p.name for p in (tmp_path / "adapters").iterdir()] == second
        served.close()
        assert not server.adapters
        assert not (tmp_path / "adapters").exists()


def test_answers_come_from_the_version_that_was_sent_with_their_log_probabilities(learner, tmp_path):
    prompts = [tuple(range(10, 10 + n)) for n in (5, 9, 9, 12)]
    sampling = Sampling(12, 1.0, seed=3)
    with VLLM(tiny()) as server:
        served = served_by(Servers("tiny", (server.url, server.url)), learner, tmp_path / "adapters")
        shaken(learner)
        served.send(1)
        rollouts = served.generate(prompts, [f"k{i}" for i in range(4)], learner.end_ids, sampling)
        again = served.generate(prompts[2:], ["k2", "k3"], learner.end_ids, sampling)
    assert [r.ids for r in rollouts[2:]] == [r.ids for r in again]  # a row's seed is its own
    assert rollouts[1].ids != rollouts[2].ids  # and another key's is another
    for prompt, rollout in zip(prompts, rollouts, strict=True):
        with torch.no_grad():
            logits = learner.model(torch.tensor([[*prompt, *rollout.ids]])).logits.float().log_softmax(-1)
        for k, (token, logp) in enumerate(zip(rollout.ids, rollout.logps, strict=True)):
            assert logp == pytest.approx(float(logits[0, len(prompt) - 1 + k, token]), abs=1e-3)
        assert rollout.truncated == (rollout.ids[-1] not in learner.end_ids)


def test_a_killed_process_versions_are_unloaded_by_the_one_that_goes_on(learner, tmp_path):
    with VLLM(tiny()) as server:
        servers = Servers("tiny", (server.url,))
        served_by(servers, learner, tmp_path / "adapters").send(7)
        served_by(servers, learner, tmp_path / "adapters").send(7)
        assert len(server.adapters) == 1
        # Another run's are its own.
        other = served_by(servers, learner, tmp_path / "others")
        other.send(7)
        assert len(server.adapters) == 2
        other.close()
        assert len(server.adapters) == 1


def test_an_adapter_that_has_not_arrived_is_told_by_log_probabilities(learner, tmp_path):
    with VLLM(tiny(), faults=("ignores adapters",)) as server:
        served = served_by(Servers("tiny", (server.url,)), learner, tmp_path)
        served.send(0)  # an adapter that changes nothing cannot be told from none
        shaken(learner, scale=0.05)
        with pytest.raises(
            ModelError, match=rf"{server.url}.*from the one without adapter: the adapter has not arrived"
        ):
            served.send(1)


def test_another_base_than_the_one_that_is_trained_is_refused(learner, tmp_path):
    with (
        VLLM(tiny(seed=5)) as server,
        pytest.raises(ModelError, match=rf"{server.url}.*is another base served than the one that is trained"),
    ):
        served_by(Servers("tiny", (server.url,)), learner, tmp_path).send(0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("slow", r"'completions' failed \(no whole answer within 0.2 s\)"),
        ("no token ids", "has no token ids"),
        ("http-500", "HTTP 500: .*engine died"),
    ],
)
def test_a_server_that_fails_is_named(fault, words, monkeypatch):
    monkeypatch.setattr("accord.models.asking.FIRST_WAIT_S", 0.01)
    with VLLM(tiny(), faults=(fault,)) as server:
        servers = Servers("tiny", (server.url,), timeout_s=0.2 if fault == "slow" else 60)
        with pytest.raises(ModelError, match=f"{server.url}.*{words}"):
            servers.generate([(5, 6, 7)], ["k"], frozenset({1}), Sampling(4, 1.0))


def test_a_server_that_is_not_there_and_one_that_takes_no_adapters(learner, tmp_path, monkeypatch):
    monkeypatch.setattr("accord.models.asking.FIRST_WAIT_S", 0.01)
    with pytest.raises(ModelError, match=r"http://127.0.0.1:9/v1: 'models' failed \(no connection"):
        served_by(Servers("tiny", ("http://127.0.0.1:9/v1",)), learner, tmp_path).send(0)
    with VLLM(tiny()) as server:
        nothing = Served(
            Servers("tiny", (server.url,)), learner, lambda folder: folder.mkdir(parents=True), tmp_path, CANARY
        )
        with pytest.raises(ModelError, match=r"No adapter found.*--enable-lora"):
            nothing.send(0)


def test_greedy_answers_are_those_of_the_model_itself(learner, tmp_path):
    prompts, keys = [tuple(range(20, 30)), tuple(range(40, 45))], ["a", "b"]
    shaken(learner)
    own = generate(learner.model, prompts, keys, learner.end_ids, Sampling(10))
    with VLLM(tiny()) as server:
        served = served_by(Servers("tiny", (server.url,)), learner, tmp_path)
        served.send(1)
        assert [r.ids for r in served.generate(prompts, keys, learner.end_ids, Sampling(10))] == [r.ids for r in own]
