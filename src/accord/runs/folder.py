"""A run is a folder. Asking the same again does only what is missing; asking something else in a used folder is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.errors import InputError
from accord.runs.atomic import digest, write_json

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's folder. It is done when its `stage.json` exists with the key of the inputs that are asked for now."""

    folder: Path
    key: str

    @property
    def done(self) -> bool:
        """Whether the stage was finished with these inputs."""
        return self._record().get("key") == self.key and "outputs" in self._record()

    @property
    def outputs(self) -> Mapping[str, Any]:
        """What the finished stage recorded."""
        return dict(self._record()["outputs"])

    def finish(self, outputs: Mapping[str, Any]) -> None:
        """Record that the stage is done."""
        write_json(self.folder / "stage.json", {"key": self.key, "outputs": dict(outputs)})

    def _record(self) -> dict[str, Any]:
        path = self.folder / "stage.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder and what was asked of it."""

    folder: Path
    asked: Mapping[str, Any]

    def stage(self, name: str, inputs: Mapping[str, Any]) -> Stage:
        """Return a stage by its name and inputs. What an earlier attempt with other inputs left is cleared away."""
        stage = Stage(self.folder / "stages" / name, digest({"stage": name, "inputs": dict(inputs)}))
        marker = stage.folder / "key"
        if stage.folder.exists() and (not marker.exists() or marker.read_text() != stage.key):
            shutil.rmtree(stage.folder)
        if not stage.folder.exists():
            stage.folder.mkdir(parents=True)
            marker.write_text(stage.key)
        return stage

    def manifest(self) -> dict[str, Any]:
        """Return the manifest as it is on disk."""
        return dict(json.loads((self.folder / MANIFEST).read_text(encoding="utf-8")))

    def record(self, **entries: Any) -> None:
        """Add entries to the manifest."""
        write_json(self.folder / MANIFEST, {**self.manifest(), **entries})


def open_run(folder: Path, asked: Mapping[str, Any], facts: Mapping[str, Any]) -> Run:
    """Open a folder for what is asked; create it where there is none.

    `facts` (versions, hashes, machine) are written to the manifest beside `asked` and are not compared.

    Raises:
        InputError: the folder holds another run, or something that is no run.
    """
    path = folder / MANIFEST
    asked = json.loads(json.dumps(dict(asked)))  # as it will be read back: JSON has no tuples
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))["asked"]
        different = sorted(k for k in {*before, *asked} if before.get(k) != asked.get(k))
        if different:
            changes = ", ".join(f"{k}: {before.get(k)!r} there, {asked.get(k)!r} now" for k in different)
            raise InputError(f"{folder} holds another run ({changes}); choose another --out, or ask the same again")
        return Run(folder, before)
    # A kill during the very first write leaves a temporary file, which is nobody's.
    if folder.exists() and any(not p.name.endswith(".tmp") for p in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, {"asked": asked, **facts})
    return Run(folder, asked)


def read_run(folder: Path) -> Run:
    """Return the run in a folder.

    Raises:
        InputError: there is none.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise InputError(f"{folder} holds no run: no {MANIFEST}")
    return Run(folder, json.loads(path.read_text(encoding="utf-8"))["asked"])


def latest_run(root: Path) -> Path:
    """Return the folder of the run that was begun or touched last.

    Raises:
        InputError: no run is there.
    """
    runs = sorted(root.glob(f"*/{MANIFEST}"), key=lambda p: p.stat().st_mtime) if root.is_dir() else []
    if not runs:
        raise InputError(f"no run in {root}/; begin one with `accord align`")
    return runs[-1].parent
