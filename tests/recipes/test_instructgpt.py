"""InstructGPT's recipe, whole, on the tiny model and a few comparisons."""

import json
from dataclasses import replace

import pytest
from command_line import accord
from test_single_runs import comparisons

from accord.cli.instructgpt import lines
from accord.errors import DataError
from accord.models.load import load_model
from accord.recipes.instructgpt import InstructSettings, plan, read_material, run_instructgpt
from accord.report.reinforcement import told
from accord.train.samples import read_samples
from accord.types import Silent


@pytest.fixture
def settings(tmp_path, tiny_folder):
    files = [
        str(comparisons(tmp_path / f"{name}.jsonl", n, start)) for name, n, start in (("train", 16, 0), ("dev", 6, 700))
    ]
    return InstructSettings(
        *files,
        str(tiny_folder),
        "fp32",
        rank=4,
        steps=2,
        prompts_per_step=4,
        group=2,
        max_new_tokens=8,
        limit=16,
        n_held_out=4,
    )


def test_it_runs_whole_and_is_not_done_again(settings, tmp_path):
    material = read_material(settings)
    out = tmp_path / "run"
    facts, truth = run_instructgpt(out, settings, material, Silent())
    assert (facts["sft"]["conversations"], facts["ppo"]["steps"]) == (16, 2)
    load_model(facts["model"])
    assert truth.reward.difference.n == truth.watcher.difference.n == truth.kl.n == 4
    assert abs(truth.kl.value) < 5
    assert set(truth.rates) == set(truth.answers) == {"before", "after"}
    assert truth.rates["after"].contrast_refusal.n + truth.rates["after"].contrast_refusal.n_unscored > 0
    assert told(truth) in (out / "report.html").read_text()
    assert len(read_samples(out / "measured" / "answers-after.jsonl")) == 8
    said = "\n".join(lines(truth))
    assert "(n=4 prompts)" in said
    assert "standard deviations" in said
    again, same = run_instructgpt(out, settings, material, Silent())
    assert again == facts
    assert same == truth


def test_the_halves_share_no_prompt(settings):
    material = read_material(settings)
    assert not {c.family for c in material.reward} & {c.family for c in material.watcher}
    assert len(material.reward) == len(material.watcher) == 8
    assert read_material(replace(settings, seed=1)) != material
    with pytest.raises(DataError, match="two halves"):
        read_material(replace(settings, limit=1))


def test_the_plan_says_how_much_there_is(settings):
    told = "\n".join(plan(settings, read_material(settings)))
    assert "reward model on 8 comparisons" in told
    assert "16 answers, at most 128 tokens sampled" in told


def test_the_verb(settings, tmp_path):
    done = accord(
        "align", "--recipe", "instructgpt", "--comparisons", settings.comparisons, "--dev", settings.dev, "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    assert " operations; some " in done.stdout + done.stderr
    assert "PPO: 20 steps of 32 prompts" in done.stdout + done.stderr
    for wrong, message in (
        (["--recipe", "instructgtp"], "did you mean 'instructgpt'"),
        (["--recipe", "instructgpt", "--comparisons", settings.comparisons], "give --dev"),
        (
            ["--recipe", "instructgpt", "--method", "full", "--dpo-epochs", "1"],
            "has no --dpo-epochs, --method; its own",
        ),
        (["--dev", settings.dev], "recipe safety_round has no --dev"),
    ):
        done = accord("align", *wrong)
        assert done.returncode == 2
        assert message in done.stderr


def test_json(settings, tmp_path):
    done = accord(
        "align", "--recipe", "instructgpt", "--comparisons", settings.comparisons, "--dev", settings.dev, "--model", settings.model,
        "--precision", "fp32", "--limit", "4", "--steps", "1", "--layers", "1-", "--rank", "3", "--out",
        str(tmp_path / "run"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["facts"]["ppo"]["steps"] == 1
    adapter = json.loads((tmp_path / "run" / "sft" / "model" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["layers_to_transform"]) == (3, [1, 2, 3])
    assert not list((tmp_path / "run").rglob("states-*"))
