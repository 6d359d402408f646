"""Our side of every benchmark of training: one epoch through the loop, timed. Nothing of the peer is imported here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from machine import clock
from torch import nn

from accord.models.packed import packed
from accord.train.offline import Task, TrainSettings, fit
from accord.types import Silent


def train_epoch(model: nn.Module, make_task: Callable[[], Task], dials: TrainSettings, device: torch.device) -> float:
    """Train and return the seconds that it took.

    Inside are packing the weights and whatever `make_task` computes, outside is the checkpoint with which the loop ends: the peer
    is told to write none.
    """
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # the state is global: it would keep the peer's number format
    with tempfile.TemporaryDirectory() as folder:
        began = clock(device)
        with packed(model):
            task = make_task()
            ready = clock(device)
            result = fit(model, task, dials, Path(folder), Silent(), "epoch")
    return ready - began + result.seconds
