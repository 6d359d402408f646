"""`accord align --rounds 2` for real, on the starter model with a few rows of each kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from accord.data.findings import FindingStore
from accord.errors import SettingsError
from accord.recipes.settings import AlignSettings

ALIGN = ["align", "--limit", "2", "--sft-epochs", "1", "--baseline-share", "0.5", "--rounds", "2", "--out", "run"]


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-c", "from accord.cli import main; main()", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


# Some 4 minutes on two cores, which the other tests do not leave.
slow = pytest.mark.skipif("ACCORD_SLOW" not in os.environ, reason="takes 4 minutes; `make test-slow` runs it")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rounds")
    return folder / "run", run(folder, *ALIGN)


@slow
def test_a_later_round_trains_beside_a_control_and_the_report_shows_both(finished):
    folder, output = finished
    page = (folder / "report.html").read_text()
    for words in ("Round 2", "round 2, control", "After − control", "Fresh, attacked"):
        assert words in page
    lesson = json.loads((folder / "stages/round-2-lesson/stage.json").read_text())["outputs"]
    trained = {a: json.loads((folder / f"stages/round-2-{a}/stage.json").read_text()) for a in ("control", "findings")}
    assert lesson["rows"] > 0
    assert all(record["outputs"]["skipped"] == 0 for record in trained.values())
    assert "round 2: harmful compliance" in output


@slow
def test_no_verify_prompt_was_attacked_for_findings_or_trained_on(finished):
    folder, _ = finished
    with FindingStore(folder / "findings.sqlite") as store:
        kept = store.query()
    assert kept
    assert {f.prompt.split for f in kept} == {"discover"}
    assert any(f.status == "in training" for f in kept)


@slow
def test_asking_again_gives_the_same_model_and_trains_nothing(finished):
    folder, _ = finished
    before = load_file(folder / "model/adapter_model.safetensors")
    output = run(folder.parent, *ALIGN)
    after = load_file(folder / "model/adapter_model.safetensors")
    assert all(weight.equal(after[name]) for name, weight in before.items())
    assert "states of the frozen layers" not in output
    assert "SFT: " not in output


@pytest.mark.parametrize("method", ["full", "dora"])
def test_rounds_whose_strength_cannot_be_folded_in_are_refused(method):
    with pytest.raises(SettingsError, match="rounds must be 1 with method full or dora"):
        AlignSettings(method=method, rounds=2)
