import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from accord.cli.tracking import tracked
from accord.errors import SettingsError
from accord.types import Silent


def scalars(folder):
    """What TensorBoard would draw: by tag, values by step. A record is its length, a checksum, itself and a checksum."""
    found = {}
    for path in folder.rglob("events.out.tfevents.*"):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_every_steps_measurements_are_drawn_stage_by_stage(tmp_path):
    progress = tracked(Silent(), ["tensorboard"], tmp_path / "run")
    assert not (tmp_path / "run").exists()  # nothing before the run's folder is opened
    for stage in ("SFT", "DPO"):
        progress.start(stage, 3, "steps")
        for step in range(3):
            progress.measure(stage, step, {"loss": 1.0 / (step + 1), "dpo/accuracy": 0.5})
    progress.accelerator.end_training()
    found = scalars(tmp_path / "run" / "tracking")
    assert found["SFT/loss"] == found["DPO/loss"] == pytest.approx({0: 1.0, 1: 0.5, 2: 1 / 3})
    assert found["DPO/dpo/accuracy"] == {0: 0.5, 1: 0.5, 2: 0.5}


def test_without_trackers_nothing_is_changed(tmp_path):
    progress = Silent()
    assert tracked(progress, [], tmp_path) is progress


def test_an_unknown_tracker_and_one_that_is_not_installed(tmp_path):
    with pytest.raises(SettingsError, match=r"'tensorbord'; did you mean 'tensorboard'\?"):
        tracked(Silent(), ["tensorbord"], tmp_path)
    with pytest.raises(SettingsError, match="not installed: mlflow; run: pip install mlflow"):
        tracked(Silent(), ["tensorboard", "mlflow"], tmp_path)
