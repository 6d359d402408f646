"""`accord align --recipe instructgpt|llama2`: what both do around their own numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.errors import SettingsError
from accord.types import Progress


@dataclass(frozen=True, slots=True)
class Done:
    """What a recipe came to: facts with its `model` and `report`, what was measured, and that in lines."""

    facts: Mapping[str, Any]
    measured: Mapping[str, Any]
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recipe whose files have been read: what it would do, and how it is done in a folder."""

    plan: Sequence[str]
    run: Callable[[Path, Progress], Done]


def require(recipe: str, given: Mapping[str, Any], files: Sequence[str]) -> None:
    """Refuse a recipe of which a file is missing.

    Raises:
        SettingsError: naming the options that give them.
    """
    if missing := [f"--{name.replace('_', '-')}" for name in files if not given.get(name)]:
        raise SettingsError(
            f"recipe {recipe} learns from comparisons and is measured on held-out ones: give {', '.join(missing)}"
        )


def carry_out(prepared: Prepared, out: Path, dry_run: bool, as_json: bool, progress: Progress) -> None:
    """Say what a recipe would do, and unless that is all that was asked, do it and print what it came to.

    Raises:
        SettingsError: it was launched in several processes, which would all write the same files.
    """
    from accord.recipes.settings import refuse_several_processes

    refuse_several_processes()
    for line in prepared.plan:
        progress.say(line)
    if dry_run:
        progress.say("dry run: nothing was written")
        return
    done = prepared.run(out, progress)
    if as_json:
        print(json.dumps({"facts": done.facts, **done.measured}))
        return
    print("\n".join(done.lines))
    print(f"report: {done.facts['report']}")
    print(f"model: {done.facts['model']}    talk to it: accord chat {done.facts['model']}")
