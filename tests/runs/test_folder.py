import json
import os

import pytest

from accord.errors import InputError
from accord.runs.folder import MANIFEST, latest_run, open_run, read_run

ASKED = {"model": "starter", "seed": 0, "policy": "é.yaml"}


def run(folder, **asked):
    return open_run(folder, {**ASKED, **asked}, {"version": "0.1"})


def test_a_stage_is_done_only_with_the_same_key(tmp_path):
    stage = run(tmp_path / "r").stage("sft", {"rank": 8})
    assert not stage.done
    stage.finish({"loss": 0.5})
    assert run(tmp_path / "r").stage("sft", {"rank": 8}).done
    assert run(tmp_path / "r").stage("sft", {"rank": 8}).outputs == {"loss": 0.5}
    assert not run(tmp_path / "r").stage("sft", {"rank": 16}).done


def test_the_name_is_part_of_the_key(tmp_path):
    here = run(tmp_path / "r")
    assert here.stage("sft", {"rank": 8}).key != here.stage("dpo", {"rank": 8}).key


def test_other_inputs_clear_what_the_stage_left(tmp_path):
    here = run(tmp_path / "r")
    old = here.stage("sft", {"rank": 8})
    (old.folder / "checkpoint.safetensors").write_text("of rank 8")
    (here.stage("dpo", {}).folder / "kept").touch()
    assert (here.stage("sft", {"rank": 8}).folder / "checkpoint.safetensors").exists()
    assert not (here.stage("sft", {"rank": 16}).folder / "checkpoint.safetensors").exists()
    assert (here.stage("dpo", {}).folder / "kept").exists()


def test_a_stage_folder_without_its_marker_is_not_trusted(tmp_path):
    """A kill between making the folder and marking it."""
    here = run(tmp_path / "r")
    left = tmp_path / "r" / "stages" / "sft"
    left.mkdir(parents=True)
    (left / "checkpoint.safetensors").touch()
    assert not (here.stage("sft", {}).folder / "checkpoint.safetensors").exists()


def test_a_stage_that_was_begun_and_not_finished_is_not_done(tmp_path):
    stage = run(tmp_path / "r").stage("sft", {})
    (stage.folder / "stage.json").write_text(json.dumps({"key": stage.key}))
    assert not stage.done


def test_the_same_question_opens_the_same_run(tmp_path):
    first = run(tmp_path / "r")
    first.record(seconds=3)
    again = open_run(tmp_path / "r", ASKED, {"version": "0.2"})
    assert again.asked == ASKED
    assert again.manifest() == {"asked": ASKED, "version": "0.1", "seconds": 3}
    assert read_run(tmp_path / "r").asked == ASKED


def test_a_tuple_asked_again_is_the_same_question(tmp_path):
    """JSON has no tuples: what comes back is a list."""
    first = run(tmp_path / "r", suites=("a", "b"))
    assert run(tmp_path / "r", suites=("a", "b")).asked == first.asked


@pytest.mark.parametrize("change", [{"seed": 1}, {"extra": True}, {"model": None}])
def test_another_question_in_a_used_folder_is_refused(tmp_path, change):
    run(tmp_path / "r")
    with pytest.raises(InputError, match=f"holds another run.*{next(iter(change))}.*choose another --out"):
        run(tmp_path / "r", **change)
    assert read_run(tmp_path / "r").asked == ASKED


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="not empty and holds no run"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "r").mkdir()
    assert run(tmp_path / "r").folder == tmp_path / "r"


def test_no_run_to_read(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        read_run(tmp_path)


def test_latest_run_is_the_one_touched_last(tmp_path):
    for age, name in enumerate(["b", "c", "a"]):
        run(tmp_path / name)
        os.utime(tmp_path / name / MANIFEST, (1000 - age, 1000 - age))
    (tmp_path / "newest-but-no-run").mkdir()
    assert latest_run(tmp_path) == tmp_path / "b"
    read_run(tmp_path / "a").record(more=1)
    assert latest_run(tmp_path) == tmp_path / "a"


@pytest.mark.parametrize("folder", ["", "missing"])
def test_no_latest_run(tmp_path, folder):
    with pytest.raises(InputError, match=r"no run in .*accord align"):
        latest_run(tmp_path / folder)
