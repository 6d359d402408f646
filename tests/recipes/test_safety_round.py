"""`accord align` for real, on the starter model with a few rows of each kind: the outputs, and a kill at any moment."""

import json
import os
import random
import time

import pytest
import torch
from command_line import accord, started
from safetensors.torch import load_file

from accord.data.records import read_demonstrations, read_findings, read_prompts
from accord.errors import DataError
from accord.feedback.own_failures import own_failures
from accord.models.load import load_model
from accord.policy import load_policy
from accord.recipes.material import read_material
from accord.recipes.settings import AlignSettings
from accord.starter import demonstrations_path, policy_path, verify_path
from accord.types import Attempt, Outcome, Score

ALIGN = ["align", "--limit", "2", "--sft-epochs", "2", "--baseline-share", "0.5"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align")
    done = accord(*ALIGN, "--out", "run", cwd=folder, timeout=900)
    assert done.returncode == 0, done.stderr
    return folder / "run", done.stdout + done.stderr


def test_a_round_writes_what_it_promises(finished):
    run, output = finished
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["asked"]["limit"] == 2
    assert manifest["peak_memory_gib"] < 6
    assert (run / "report.html").read_text().lower().startswith("<!doctype html>")
    card = (run / "model/README.md").read_text()
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in card
    assert all(f.sealed and f.prompt.split == "verify" for f in read_findings(run / "findings.jsonl"))
    for words in ("base: harmful compliance", "aligned: harmful compliance", "SFT: done"):
        assert words in output


def test_the_model_loads_and_differs_from_the_base(finished):
    run, _ = finished
    aligned, base = load_model(str(run)), load_model("starter")
    ids = torch.tensor([[1, 9690, 198]])
    assert not torch.equal(aligned.model(ids).logits, base.model(ids).logits)


def test_asking_the_same_again_does_nothing_again(finished):
    run, _ = finished
    before = {p: p.stat().st_mtime_ns for p in run.glob("stages/*/attempts-*.jsonl")}
    done = accord("resume", "run", cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert before == {p: p.stat().st_mtime_ns for p in run.glob("stages/*/attempts-*.jsonl")}
    for stage in ("states of the frozen layers", "SFT: ", "DPO: "):
        assert stage not in done.stdout + done.stderr


def test_cli_01_exit_code_hides_failures(finished):
    """A missed release gate ends a gated run with 1 and names it; without the gate 0, and the report still says so."""
    run, _ = finished
    gates = json.loads((run / "manifest.json").read_text())["gates"]
    failed = [g for g in gates if g["status"] != "met"]
    assert failed  # so few rows of a kind never show a rate with certainty
    gated = accord("resume", "run", "--gate", cwd=run.parent)
    assert gated.returncode == 1, gated.stderr
    assert f"{len(failed)} of {len(gates)} release gates are not met" in gated.stderr
    assert failed[0]["gate"] in gated.stderr
    assert accord("resume", "run", cwd=run.parent).returncode == 0
    assert "release gates" in (run / "report.html").read_text()


@pytest.mark.slow
def test_killed_anywhere_and_resumed_gives_the_same_bits(finished, tmp_path):
    """SIGKILL at three random moments of one run, then resume to the end."""
    reference, _ = finished
    moments = random.Random(os.getpid())
    for _ in range(3):
        process = started(*ALIGN, "--out", "run", cwd=tmp_path)
        time.sleep(moments.uniform(2, 30))
        process.kill()
    done = accord(*ALIGN, "--out", "run", cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    expected = load_file(reference / "model/adapter_model.safetensors")
    got = load_file(tmp_path / "run/model/adapter_model.safetensors")
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_no_verify_prompt_reaches_training():
    material = read_material(AlignSettings())
    sealed = {p.id for p in material.verify} | {p.family for p in material.verify}
    trained = [*material.demonstrations, *material.held_out]
    assert not sealed & {d.prompt.id for d in trained}
    assert not sealed & {d.prompt.family for d in trained}
    held_out = {d.prompt.pair or d.prompt.family for d in material.held_out}
    assert {d.prompt.kind for d in material.held_out} == {"harmful", "contrast", "ordinary", "principle"}
    assert not held_out & {d.prompt.pair or d.prompt.family for d in material.demonstrations}


def test_an_answer_to_a_verify_prompt_is_refused_as_training_data():
    prompt = read_prompts(verify_path()).prompts[0]
    attempt = Attempt("a", prompt, "aligned", "Sure!", 2, False, Score(Outcome.COMPLIED, "refusal"), 0)
    with pytest.raises(DataError, match="sealed from training"):
        own_failures([attempt], {}, load_policy(policy_path()))


def test_a_training_file_that_holds_a_verify_prompt_is_refused(tmp_path):
    sealed = json.loads(verify_path().read_text().splitlines()[0])
    row = {**sealed, "split": "train", "family": "other/family", "id": "mine"}
    file = tmp_path / "demonstrations.jsonl"
    file.write_text(demonstrations_path().read_text() + json.dumps(row) + "\n")
    assert read_demonstrations(file)
    with pytest.raises(DataError, match="verify"):
        read_material(AlignSettings(demonstrations=str(file)))
