"""`accord train distil` on the tiny model: held-out distance, the teacher's own answers, a run gone on with, the verb."""

import json

import pytest
from command_line import accord
from safetensors.torch import load_file

from accord.data.messages import with_system
from accord.errors import DataError, SettingsError
from accord.recipes.distil_run import run_distillation
from accord.recipes.settings import TrainingSettings
from accord.train import offline
from accord.types import Message, Silent

SYSTEM = "is what is in the harbour, the harbour asked"
WORDS = ["water", "harbour", "gate", "lamp", "stone", "river", "bridge", "letter", "garden", "window"]


def rows(path, n, start=0, answers=True):
    written = []
    for i in range(start, start + n):
        ask = f"{WORDS[i % 10]} {i}: where is the {WORDS[(i // 3) % 10]} of {WORDS[(3 * i + 4) % 10]}?"
        turns = [{"role": "user", "content": ask}]
        if answers:
            written.append({"messages": [*turns, {"role": "assistant", "content": f"In the {WORDS[(i + 1) % 10]}."}]})
        else:
            written.append({"prompt": ask})
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    return path


def settings(folder, **more):
    return TrainingSettings(model=str(folder), precision="fp32", rank=4, **{"learning_rate": 2e-2, **more})


@pytest.mark.parametrize("how", [{"first_layer": 0}, {"first_layer": 2}, {"method": "full", "learning_rate": 2e-3}])
def test_held_out_answers_come_nearer_to_the_teachers(tmp_path, tiny_folder, how):
    data, dev = rows(tmp_path / "train.jsonl", 20), rows(tmp_path / "dev.jsonl", 10, start=755)
    dev.write_text(dev.read_text() + data.read_text().splitlines()[0] + "\n")
    out, asked = tmp_path / "run", settings(tiny_folder, epochs=6, **how)
    facts, distances = run_distillation(data, dev, out, SYSTEM, 8, asked, Silent())
    assert (facts["rows"], facts["steps"], facts["skipped steps"]) == (20, 18, 0)
    assert facts["held-out rows"] == "10, near-duplicates of training left out: 1"
    assert distances["distilled"].n == distances["base model"].n == 10
    assert distances["distilled"].high < distances["base model"].low
    assert not list(out.rglob("states-*.safetensors"))
    # Given again, the finished run is read back, and its teacher is the base model still.
    again, same = run_distillation(data, dev, out, SYSTEM, 8, asked, Silent())
    assert again["last loss"] == facts["last loss"]
    for name, e in distances.items():
        assert same[name].value == pytest.approx(e.value, rel=1e-5)
    assert not list(out.rglob("states-*.safetensors"))


def test_prompts_are_answered_by_the_teacher_once(tmp_path, tiny_folder):
    data, out = rows(tmp_path / "prompts.jsonl", 6, answers=False), tmp_path / "run"
    asked = settings(tiny_folder)
    facts, distances = run_distillation(data, None, out, SYSTEM, 5, asked, Silent())
    assert distances == {}
    assert facts["answers"] == f"the teacher's own: {out / 'answers.jsonl'}"
    assert 6 <= facts["supervised tokens"] <= 30
    said = (out / "answers.jsonl").read_text()
    assert [json.loads(line)["messages"][0]["role"] for line in said.splitlines()] == ["user"] * 6
    (kept,) = out.rglob("answers.safetensors")
    made = kept.stat().st_mtime_ns
    run_distillation(data, None, out, SYSTEM, 5, asked, Silent())
    assert kept.stat().st_mtime_ns == made
    assert (out / "answers.jsonl").read_text() == said


class Stopped(Silent):
    """Ends the run in its fourth step."""

    def measure(self, stage, step, values):
        if step == 3:
            raise KeyboardInterrupt


@pytest.mark.parametrize("answers", [True, False])
def test_a_run_that_was_cut_off_goes_on_to_the_same_bits(tmp_path, tiny_folder, monkeypatch, answers):
    monkeypatch.setattr(offline, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(offline, "LEAST_BETWEEN", 0.0)
    data, asked = rows(tmp_path / "train.jsonl", 16, answers=answers), settings(tiny_folder, epochs=4, first_layer=2)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    run_distillation(data, None, whole, SYSTEM, 5, asked, Silent())
    with pytest.raises(KeyboardInterrupt):
        run_distillation(data, None, parted, SYSTEM, 5, asked, Stopped())
    assert not (parted / "model").exists()
    run_distillation(data, None, parted, SYSTEM, 5, asked, Silent())
    first, second = (load_file(folder / "model" / "adapter_model.safetensors") for folder in (whole, parted))
    assert first.keys() == second.keys()
    assert all(first[name].equal(second[name]) for name in first)


def test_a_row_with_a_system_turn_of_its_own_keeps_it_in_one_turn():
    ask = Message("user", "Where?")
    assert with_system("Be brief.", (ask,)) == (Message("system", "Be brief."), ask)
    own = (Message("system", "You are Ada."), ask)
    assert with_system("Be brief.", own) == (Message("system", "Be brief.\n\nYou are Ada."), ask)


def test_what_cannot_be_distilled_is_refused_before_anything_is_written(tmp_path, tiny_folder):
    out, asked = tmp_path / "run", settings(tiny_folder)
    data = rows(tmp_path / "train.jsonl", 4)
    with pytest.raises(SettingsError, match="system prompt is empty"):
        run_distillation(data, None, out, " ", 8, asked, Silent())
    with pytest.raises(DataError, match="nothing independent is left"):
        run_distillation(data, data, out, SYSTEM, 8, asked, Silent())
    with pytest.raises(DataError, match="4 of 4 rows are longer than the model's window"):
        run_distillation(data, None, out, "zq " * 300, 8, asked, Silent())
    prompts = rows(tmp_path / "prompts.jsonl", 4, answers=False)
    with pytest.raises(DataError, match="4 of 4 rows are longer than the model's window"):
        run_distillation(prompts, None, out, SYSTEM, 600, asked, Silent())
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    with pytest.raises(DataError, match="holds comparisons; expected conversations"):
        run_distillation(pairs, None, out, SYSTEM, 8, asked, Silent())
    assert not out.exists()


def test_the_verb_takes_a_text_or_a_policy(tmp_path, tiny_folder):
    data, dev = rows(tmp_path / "train.jsonl", 6), rows(tmp_path / "dev.jsonl", 3, start=700)
    where = ("--model", tiny_folder, "--precision", "fp32", "--layers", "2-3", "--rank", "2")
    refused = accord("train", "distil", data, "--out", tmp_path / "none", *where)
    assert refused.returncode == 2
    assert "either --system TEXT or --policy FILE" in refused.stderr
    done = accord("train", "distil", data, "--dev", dev, "--system", SYSTEM, "--out", tmp_path / "run", *where)
    assert done.returncode == 0, done.stderr
    assert "held-out nats a token from the teacher, base model: " in done.stdout
    assert "held-out nats a token from the teacher, distilled: " in done.stdout
    assert "(n=3; mean, t 95%)" in done.stdout
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["asked"]["system"], manifest["asked"]["first_layer"]) == (SYSTEM, 2)
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "name: small\nversion: '1'\nsummary: Be kind.\nhazards:\n"
        "  - {id: fraud, name: Fraud, definition: Cheating., severity: low, disallowed: [scams], response: refuse,\n"
        "     guidance: Decline., written_response: No.}\n"
    )
    done = accord("train", "distil", data, "--policy", policy, "--out", tmp_path / "by-policy", *where, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["held_out_kl"] == {}
    manifest = json.loads((tmp_path / "by-policy" / "manifest.json").read_text())
    assert "Be kind." in manifest["asked"]["system"]
    assert "fraud" in manifest["asked"]["system"]
