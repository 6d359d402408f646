"""Reinforcement learning as a run folder: from a file of prompts to a model that loads, on the tiny model."""

import json
from dataclasses import replace

import pytest
import torch
from command_line import accord
from safetensors.torch import load_file
from vllm_server import VLLM

from accord.errors import DataError, InputError, ModelError, SettingsError
from accord.models.load import load_model
from accord.recipes.online_run import OnlineAsked, method_named, run_online
from accord.recipes.settings import TrainingSettings
from accord.train.samples import read_samples, step_file
from accord.types import Silent

ODD = """
def odd(transcript):
    text = transcript.answer
    return sum(ord(c) % 2 for c in text) / len(text) if text else 0.0

def long(transcript):
    return float(len(transcript.answer))
"""


@pytest.fixture
def given(tmp_path, tiny_folder):
    """A file of prompts, a file with two rewards, the tiny model's settings."""
    prompts = tmp_path / "prompts.jsonl"
    texts = ("where is the harbour?", "what is the water?", "how is that asked?", "and the system?")
    prompts.write_text("".join(json.dumps({"prompt": t}) + "\n" for t in texts))
    mine = tmp_path / "mine.py"
    mine.write_text(ODD)
    settings = TrainingSettings(model=str(tiny_folder), precision="fp32", rank=4, learning_rate=3e-2, rows_per_step=4)
    return prompts, mine, settings


def asked(mine, **more):
    given = {"rewards": (f"{mine}:odd",), "steps": 3, "prompts_per_step": 4, "group": 4, "max_new_tokens": 8}
    return OnlineAsked(**{**given, **more})


@pytest.mark.parametrize("name", ["ppo", "grpo", "rejection", "online-dpo"])
def test_a_run_ends_in_a_model_that_loads_and_in_scores_with_intervals(given, tmp_path, name):
    prompts, mine, settings = given
    out = tmp_path / "run"
    facts, watched, _ = run_online(name, prompts, out, asked(mine, watcher=f"{mine}:long"), settings, Silent())
    assert facts["prompts"] == 4
    assert facts["steps"] == 3
    assert facts["ended early"] == "no"
    found = {w.name: w for w in watched}
    for reward in (f"{mine}:odd", f"{mine}:long"):
        assert found[reward].first.n == found[reward].last.n == 4
        assert found[reward].last.low < found[reward].last.value < found[reward].last.high
    assert "Learned from" in (out / "report.html").read_text()
    load_model(str(out / "model"))
    assert not any("value_head" in key for key in load_file(out / "model" / "adapter_model.safetensors"))
    samples = read_samples(step_file(out / "stages" / name, 2))
    assert len(samples) == 16
    assert set(samples[0].scores) == {f"{mine}:odd", f"{mine}:long"}
    # Asked again, it is done; asked for something else in the same folder, it is refused.
    again, _, _ = run_online(name, prompts, out, asked(mine, watcher=f"{mine}:long"), settings, Silent())
    assert again["seconds"] == facts["seconds"]
    with pytest.raises(InputError):
        run_online(name, prompts, out, asked(mine, group=5), settings, Silent())


@pytest.mark.parametrize(("name", "kl_way"), [("ppo", None), ("grpo", "full")])
def test_all_weights_can_be_trained(name, kl_way, given, tmp_path, tiny_folder):
    """The first step's answers are no distance from what the weights were; the value model is not saved with them."""
    prompts, mine, settings = given
    full = replace(settings, method="full", learning_rate=1e-3)
    asked_of = asked(mine, kl=0.1, kl_way=kl_way)
    _, _, evidence = run_online(name, prompts, tmp_path / "run", asked_of, full, Silent())
    first, *_, last = [step.metrics["rl/kl"] for step in evidence.steps]
    assert abs(first) < 1e-4 < abs(last)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_folder, tmp_path / "run" / "model"))
    assert before.keys() == after.keys()
    assert not any(torch.equal(weight, after[name]) for name, weight in before.items() if "proj" in name)
    load_model(str(tmp_path / "run" / "model"))


def test_servers_are_sent_adapters(given, tmp_path):
    prompts, mine, settings = given
    asked_of = asked(mine, rollouts=("openai:tiny@http://localhost:1/v1",))
    with pytest.raises(SettingsError, match="--method full has none"):
        run_online("grpo", prompts, tmp_path / "run", asked_of, replace(settings, method="full"), Silent())


def test_of_comparisons_the_prompts_are_taken_whatever_their_answers(given, tmp_path):
    _, mine, settings = given
    rows = [
        {"prompt": "where is it?", "chosen": "here", "rejected": "there"},
        {"prompt": "where is it?", "chosen": "there", "rejected": "here"},
        {"prompt": "and that?", "chosen": "x", "rejected": "y"},
        {"prompt": "and this?", "chosen": "", "rejected": "y"},
    ]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    facts, _, _ = run_online("grpo", pairs, tmp_path / "run", asked(mine, steps=1), settings, Silent())
    assert facts["prompts"] == 2


def test_prompts_without_room_are_named(given, tmp_path):
    prompts, mine, settings = given
    with pytest.raises(DataError, match=r"4 of 4 prompts leave no room for an answer: .*the window leaves 8 tokens"):
        run_online("grpo", prompts, tmp_path / "run", asked(mine, max_new_tokens=504), settings, Silent())


def test_ptx_wants_answers(given, tmp_path):
    prompts, mine, settings = given
    with pytest.raises(DataError, match="expected conversations or demonstrations"):
        run_online("ppo", prompts, tmp_path / "run", asked(mine, ptx=1.0), settings, Silent(), ptx=prompts)


def test_what_imitates_takes_answers_from_any_distribution(given, tmp_path):
    prompts, mine, settings = given
    facts, _, _ = run_online("rejection", prompts, tmp_path / "run", asked(mine, top_p=0.9), settings, Silent())
    assert facts["steps"] == 3


def test_an_objective_on_pairs_does_not_learn_from_samples_by_itself():
    with pytest.raises(SettingsError, match="'dpo' does not learn from sampled answers"):
        method_named("dpo", 8, {})
    assert method_named("dr_grpo", 8, {"clip": 0.1}).loss.keywords == {"clip": 0.1, "max_tokens": 8}


def test_the_verb(given, tmp_path):
    prompts, mine, settings = given
    done = accord(
        "train", "grpo", str(prompts), "--out", str(tmp_path / "run"), "--reward", f"{mine}:odd", "--model", settings.model,
        "--steps", "2", "--prompts-per-step", "4", "--group", "4", "--max-new-tokens", "8", "--clip", "0.1", "--method", "full",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["steps"] == 2
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert said["watched"][0]["name"] == f"{mine}:odd"
    assert said["watched"][0]["last"]["n"] == 4
    wrong = accord(
        "train", "rloo", str(prompts), "--out", str(tmp_path / "other"), "--reward", "refusl", "--model", settings.model
    )
    assert wrong.returncode == 2
    assert "did you mean 'refusal'" in wrong.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("ahead", [0, 1])
def test_servers_sample_for_the_model_that_learns(given, tmp_path, tiny_folder, ahead):
    """Each step's answers say which version gave them; each version was loaded under its own name, and none is left."""
    prompts, mine, settings = given
    out = tmp_path / "run"
    with VLLM(load_model(str(tiny_folder), "fp32")) as server:
        options = asked(mine, steps=4, rollouts=(f"openai:tiny@{server.url}",), ahead=ahead)
        facts, _, _ = run_online("grpo", prompts, out, options, settings, Silent())
        assert not server.adapters
        names = {body["model"] for path, body in server.calls if path == "completions" and "seed" in body}
    assert facts["steps"] == 4
    assert facts["ended early"] == "no"
    assert len(names) == 4 - ahead
    versions = [read_samples(step_file(out / "stages" / "grpo", step))[0].version for step in range(4)]
    # An optimiser step a step: with servers ahead an answer is one version older, but for the first step's.
    assert versions == ([0, 0, 1, 2] if ahead else [0, 1, 2, 3])


def test_what_servers_cannot_do_is_refused(given, tmp_path):
    prompts, mine, settings = given
    with pytest.raises(SettingsError, match="name vLLM servers with --rollouts"):
        run_online("grpo", prompts, tmp_path / "a", asked(mine, ahead=1), settings, Silent())
    with pytest.raises(ModelError, match="expected openai:NAME@URL"):
        run_online("grpo", prompts, tmp_path / "b", asked(mine, rollouts=("http://x/v1",)), settings, Silent())
    two = ("openai:a@http://localhost:1/v1", "openai:b@http://localhost:2/v1")
    with pytest.raises(SettingsError, match="different models: a, b"):
        run_online("grpo", prompts, tmp_path / "c", asked(mine, rollouts=two), settings, Silent())


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("rejection", {"kl": 0.1}, "rejection measures no divergence from the reference: leave out --kl$"),
        ("online-dpo", {"kl_budget": 5.0, "entropy": 0.1}, "leave out --entropy, --kl-budget"),
        ("ppo", {"kl_way": "k3"}, "ppo takes the penalty from the reward, where k1"),
        ("grpo", {"kl_way": "K1"}, "--kl-way K1: expected one of k1, k2, k3, full"),
        ("grpo", {"decay": 0.9}, "--decay is that of GAE, which grpo does not use"),
        ("grpo", {"top_p": 0.9}, "the model that learns has no such limit: leave out --top-p, or"),
        ("grpo", {"top_k": 5, "min_p": 0.1}, "leave out --top-k, --min-p"),
        ("ppo", {"options": {"clip": 0.0}}, "--clip is 0.0"),
        ("ppo", {"options": {"dual": 0.5}}, "--dual is 0.5"),
        ("rloo", {"passes": 2}, "rloo has no ratio to the model that sampled"),
    ],
)
def test_what_a_method_would_not_heed_is_refused(name, more, said, given, tmp_path):
    prompts, mine, settings = given
    with pytest.raises(SettingsError, match=said):
        run_online(name, prompts, tmp_path / "run", asked(mine, **more), settings, Silent())
    assert not (tmp_path / "run").exists()


def test_answers_can_be_drawn_from_the_likeliest_and_end_at_a_text(given, tmp_path):
    """Of the one likeliest token each: all answers to a prompt are the same, and nothing tells them apart."""
    prompts, mine, settings = given
    run_online("rejection", prompts, tmp_path / "run", asked(mine, top_k=1, stop=("e",)), settings, Silent())
    samples = read_samples(step_file(tmp_path / "run" / "stages" / "rejection", 0))
    assert len({(s.prompt, s.ids) for s in samples}) == 4
    assert all("e" not in s.text[:-8] for s in samples)
