"""Progress for people: a bar on a terminal, plain lines elsewhere; the stage, the rate and the time left either way."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from accord.types import Silent

PLAIN_EVERY_S = 15.0


class TerminalProgress:
    """A rich bar; finished stages stay on the screen as one line each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.console = Console(stderr=True)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.stage, self.unit, self.began, self.before, self.done = "", "", 0.0, 0, 0

    def start(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a stage."""
        self.stage, self.unit, self.began, self.before, self.done = stage, unit, self.clock(), done, done
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self.bar.start()
        self.task = self.bar.add_task(stage, total=total, completed=done, rate="", note="")

    def advance(self, n: int = 1, note: str = "") -> None:
        """Move the bar."""
        self.done += n
        if self.bar is not None and self.task is not None:
            rate = (self.done - self.before) / max(self.clock() - self.began, 1e-9)
            self.bar.update(self.task, advance=n, note=note, rate=f"{rate:.1f} {self.unit}/s")

    def finish(self, note: str = "") -> None:
        """End the stage."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
        seconds = self.clock() - self.began
        self.console.print(
            f"[green]done[/green] {self.stage}: {_made(self.before, self.done, self.unit, seconds)} {note}"
        )

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.console.print(line, highlight=False)

    def measure(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Show nothing: the bar's note says what matters of it."""


class PlainProgress:
    """A line when a stage begins, every so often, and when it ends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.stage, self.unit, self.total, self.before, self.done = "", "", 0, 0, 0
        self.began = self.said = 0.0

    def start(self, stage: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a stage."""
        self.stage, self.unit, self.total, self.before, self.done = stage, unit, total, done, done
        self.began = self.said = self.clock()
        self.say(f"{stage}: {done}/{total} {unit}")

    def advance(self, n: int = 1, note: str = "") -> None:
        """Say how far it is, not too often."""
        self.done += n
        now = self.clock()
        if now - self.said >= PLAIN_EVERY_S and self.done > self.before:
            self.said = now
            rate = (self.done - self.before) / max(now - self.began, 1e-9)
            left = (self.total - self.done) / rate
            self.say(
                f"{self.stage}: {self.done}/{self.total} {self.unit}, {rate:.1f} {self.unit}/s, {left:.0f} s left {note}"
            )

    def finish(self, note: str = "") -> None:
        """End the stage."""
        made = _made(self.before, self.done, self.unit, self.clock() - self.began)
        self.say(f"{self.stage}: done, {made} {note}".rstrip())

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, file=sys.stderr, flush=True)

    def measure(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        """Print nothing: the stage's lines say what matters of it."""


def _made(before: int, done: int, unit: str, seconds: float) -> str:
    """Return what was made in how long; where some was there before, only the rest took this time."""
    now = f", {done - before} of them now," if before else ""
    return f"{done} {unit}{now} in {seconds:.0f} s"


def is_main_process() -> bool:
    """Whether this process talks: of those that `accelerate launch` starts together, the first.

    As `train.parallel.is_main` says, without loading torch, which verbs that train nothing do not need.
    """
    return os.environ.get("RANK", "0") == "0"


def make_progress() -> TerminalProgress | PlainProgress | Silent:
    """Return bars on a terminal and plain lines elsewhere; all processes but the first are silent."""
    if not is_main_process():
        return Silent()
    return TerminalProgress() if sys.stderr.isatty() else PlainProgress()
