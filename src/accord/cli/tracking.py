"""Curves of a run in TensorBoard, Weights & Biases, MLflow or Trackio, through Accelerate's trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.errors import SettingsError, nearest
from accord.types import Progress

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
# These count the steps of each curve apart; the others count all calls, and a second stage's steps may not begin at 0 again.
_STEP_BY_TAG = ("tensorboard", "mlflow")


class Tracked:
    """A progress that also hands each step's measurements to trackers; they start with the first stage, in the run's folder."""

    def __init__(self, inner: Progress, names: Sequence[str], folder: Path) -> None:
        self.inner, self.names, self.folder = inner, names, folder
        self.advance, self.finish, self.say = inner.advance, inner.finish, inner.say
        self.accelerator: Any = None

    def start(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a stage."""
        if self.accelerator is None:
            self.accelerator = self._started()
        self.inner.start(stage, total, unit, done)

    def measure(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Log the values under the stage's name."""
        self.inner.measure(stage, step, values)
        named = {f"{stage}/{name}": value for name, value in values.items()}
        for tracker in self.accelerator.trackers:
            if tracker.name in _STEP_BY_TAG:
                tracker.log(named, step=step)
            else:
                tracker.log({**named, f"{stage}/step": step})

    def _started(self) -> Any:
        import atexit

        import torch
        from accelerate import Accelerator

        where = self.folder / "tracking"
        where.mkdir(parents=True, exist_ok=True)
        accelerator = Accelerator(cpu=not torch.cuda.is_available(), log_with=list(self.names), project_dir=str(where))
        accelerator.init_trackers(self.folder.name, init_kwargs={"wandb": {"dir": str(where)}})
        # What a tracker still holds when a run ends, by an error too.
        atexit.register(accelerator.end_training)
        return accelerator


def tracked(progress: Progress, names: Sequence[str], folder: Path) -> Progress:
    """Return a progress whose measurements go to these trackers too; what they write locally lies in `folder`/tracking.

    Raises:
        SettingsError: there is no such tracker, or it is not installed (the message holds the install line).
    """
    if not names:
        return progress
    from accelerate.tracking import get_available_trackers

    if unknown := [f"'{name}'{nearest(name, TRACKERS)}" for name in names if name not in TRACKERS]:
        raise SettingsError(f"no such tracker: {', '.join(unknown)}; there are {', '.join(TRACKERS)}")
    available = {str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()}
    if missing := [name for name in names if name not in available]:
        raise SettingsError(f"not installed: {', '.join(missing)}; run: pip install {' '.join(missing)}")
    return Tracked(progress, names, folder)
