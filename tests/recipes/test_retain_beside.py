"""`--retain-on FILE` beside each loss on a file: benign answers are kept where without it they are lost."""

import json

import pytest
from command_line import accord
from safetensors.torch import load_file

from accord.errors import DataError, SettingsError
from accord.models.load import load_model
from accord.models.tree import head_weight
from accord.recipes.conversation_run import run_conversations
from accord.recipes.distil_run import run_distillation
from accord.recipes.preference_run import run_preferences
from accord.recipes.retain import NO_RETAIN, Retain
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import make_trainee
from accord.recipes.unpaired_run import run_kto
from accord.runs.folder import read_run
from accord.train import offline
from accord.train.checkpoint import read_logs
from accord.train.imitation import teacher_kl
from accord.train.states import freeze_states
from accord.types import Silent

WORDS = ["water", "harbour", "gate", "lamp", "stone", "river", "bridge", "letter", "garden", "window"]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def conversation(i):
    return [
        {"role": "user", "content": f"{WORDS[i % 10]} {i}: where is it?"},
        {"role": "assistant", "content": f"In the {WORDS[(i + 1) % 10]}."},
    ]


@pytest.fixture
def files(tmp_path):
    pairs = [{"prompt": f"{WORDS[i % 10]} {i}?", "chosen": "No, no, no.", "rejected": "It is."} for i in range(12)]
    return {
        "pairs": write(tmp_path / "pairs.jsonl", pairs),
        "talks": write(tmp_path / "talks.jsonl", [{"messages": conversation(i)} for i in range(12)]),
        "benign": write(tmp_path / "benign.jsonl", [{"messages": conversation(i)} for i in range(50, 58)]),
    }


def settings(folder, **more):
    asked = {"epochs": 4, "learning_rate": 2e-2, "seed": 1, **more}
    return TrainingSettings(model=str(folder), precision="fp32", rank=4, **asked)


def train(verb, files, out, asked, retain=NO_RETAIN, progress=None):
    say = progress or Silent()
    if verb == "kto":
        return run_kto(files["pairs"], out, 0.1, 1.0, 1.0, asked, False, say, retain)
    if verb == "sft":
        return run_conversations(files["talks"], None, out, asked, say, retain)[0]
    if verb == "distil":
        return run_distillation(files["talks"], None, out, "harbour is what is asked", 8, asked, say, retain)[0]
    return run_preferences(files["pairs"], None, out, verb, {}, asked, False, say, retain)[0]


def drift(out, files, folder, tmp_path):
    """Mean nats a token by which the trained model has left the model in `folder` on the benign answers."""
    trainee = make_trainee(load_model(str(folder), "fp32"), settings(folder))
    trees = Retain(files["benign"]).read(trainee).trees
    base = freeze_states(trainee.model, trees, 0, [True] * len(trees), tmp_path / f"base-{out.name}", Silent())
    trained = load_model(str(out), "fp32").model
    heads = head_weight(trained), head_weight(trainee.model)
    return teacher_kl(trained, trees, base, *heads, Silent(), "").mean().item()


@pytest.mark.parametrize(
    ("verb", "how"),
    [
        ("dpo", {"first_layer": 2}),
        ("simpo", {}),
        ("kto", {"first_layer": 2}),
        ("sft", {}),
        ("sft", {"method": "full", "learning_rate": 3e-3}),
        ("distil", {"first_layer": 2}),
    ],
)
def test_benign_answers_are_kept_beside_any_loss(tmp_path, tiny_folder, files, verb, how):
    asked, alone, beside = settings(tiny_folder, **how), tmp_path / "alone", tmp_path / "beside"
    assert "retained rows" not in train(verb, files, alone, asked)
    facts = train(verb, files, beside, asked, Retain(files["benign"], 4.0))
    assert facts["retained rows"] == 8
    lost, kept = (drift(out, files, tiny_folder, tmp_path) for out in (alone, beside))
    assert kept < 0.5 * lost
    logs = read_logs(next((beside / "stages").iterdir()))[0]
    assert any("retain/kl" in log.metrics for log in logs)
    assert not list(beside.rglob("states-*.safetensors"))
    assert read_run(beside).asked["retain"] == 4.0
    assert "retain" not in read_run(alone).asked


class Stopped(Silent):
    """Ends the run in its fourth step."""

    def measure(self, stage, step, values):
        if step == 3:
            raise KeyboardInterrupt


def test_a_run_with_retained_rows_goes_on_to_the_same_bits(tmp_path, tiny_folder, files, monkeypatch):
    monkeypatch.setattr(offline, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(offline, "LEAST_BETWEEN", 0.0)
    asked, retain = settings(tiny_folder, first_layer=2), Retain(files["benign"])
    train("dpo", files, tmp_path / "whole", asked, retain)
    with pytest.raises(KeyboardInterrupt):
        train("dpo", files, tmp_path / "parted", asked, retain, Stopped())
    train("dpo", files, tmp_path / "parted", asked, retain)
    whole, parted = (load_file(tmp_path / n / "model" / "adapter_model.safetensors") for n in ("whole", "parted"))
    assert whole.keys() == parted.keys()
    assert all(whole[name].equal(parted[name]) for name in whole)


def test_rows_that_cannot_be_retained_are_refused_before_anything_is_written(tmp_path, tiny_folder, files):
    about = {"clause": "fraud", "family": "f", "split": "train"}
    kinds = write(
        tmp_path / "kinds.jsonl",
        [{"id": k, "kind": k, **about, "messages": conversation(i)} for i, k in enumerate(("contrast", "harmful"))],
    )
    out, asked = tmp_path / "run", settings(tiny_folder)
    for rows, message in (
        (kinds, r"kinds\.jsonl:2: the prompt is harmful"),
        (files["pairs"], "holds comparisons; expected benign conversations"),
        (
            write(tmp_path / "long.jsonl", [{"messages": [*conversation(1)[:1] * 40, *conversation(1)]}]),
            "1 of 1 rows are",
        ),
    ):
        with pytest.raises(DataError, match=message):
            train("dpo", files, out, asked, Retain(rows))
    with pytest.raises(SettingsError, match="retain must be at least 0"):
        Retain(files["benign"], -1.0)
    assert not out.exists()


def test_the_verbs_take_it(tmp_path, tiny_folder, files):
    where = ("--model", tiny_folder, "--precision", "fp32", "--layers", "2-", "--rank", "2")
    refused = accord("train", "ipo", files["pairs"], "--out", tmp_path / "none", *where, "--retain", "2")
    assert refused.returncode == 2
    assert "--retain needs --retain-on FILE" in refused.stderr
    for verb, data, more in (
        ("ipo", "pairs", ()),
        ("kto", "pairs", ()),
        ("sft", "talks", ()),
        ("distil", "talks", ("--system", "harbour is what is asked")),
    ):
        out = tmp_path / verb
        given = ("--retain-on", files["benign"], "--retain", "0.5")
        done = accord("train", verb, files[data], "--out", out, *where, *given, *more)
        assert done.returncode == 0, done.stderr
        assert "retained rows: 8" in done.stdout
        assert read_run(out).asked["retain"] == 0.5
