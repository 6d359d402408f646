"""`accord align --recipe instructgpt`: what it prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.cli.numbers import number, share
from accord.errors import SettingsError
from accord.types import Progress

if TYPE_CHECKING:
    from accord.report.reinforcement import Rewarded, Truth


def run(out: Path, given: dict[str, Any], dry_run: bool, as_json: bool, progress: Progress) -> None:
    """Run the recipe in `out`, or say what it would do.

    Raises:
        SettingsError: comparisons or held-out ones are missing.
    """
    from accord.recipes.instructgpt import InstructSettings, plan, read_material, run_instructgpt

    for name in ("comparisons", "dev"):
        if not given[name]:
            raise SettingsError(
                f"recipe instructgpt learns from comparisons and is measured on held-out ones: give --{name} FILE"
            )
    settings = InstructSettings(**given)
    material = read_material(settings)
    for line in plan(settings, material):
        progress.say(line)
    if dry_run:
        progress.say("dry run: nothing was written")
        return
    facts, truth = run_instructgpt(out, settings, material, progress)
    if as_json:
        print(json.dumps({"facts": facts, "truth": asdict(truth)}))
        return
    print("\n".join(lines(truth)))
    if facts["ppo"]["ended early"] != "no":
        print(f"reinforcement learning ended early: {facts['ppo']['ended early']}")
    print(f"report: {facts['report']}")
    print(f"model: {facts['model']}    talk to it: accord chat {facts['model']}")


def lines(truth: Truth) -> list[str]:
    """Return what was measured, a line a number."""
    from accord.report.reinforcement import told

    found = [
        f"{name}, held-out prompts: {_rewarded(of)}"
        for name, of in (("reward", truth.reward), ("watcher", truth.watcher))
    ]
    found.append(f"divergence from the SFT model: {number(truth.kl)} nats an answer")
    for name in ("tokens", "truncated", "repetition"):
        before, after = (truth.answers[when].get(name) for when in ("before", "after"))
        if before is not None and after is not None:
            found.append(f"{name}: {before:.3g} before, {after:.3g} after")
    for name, label in (
        ("harmful_compliance", "harmful prompts complied with"),
        ("contrast_refusal", "contrast prompts refused"),
        ("ordinary_refusal", "ordinary prompts refused"),
        ("capability", "capability"),
    ):
        was, now = (getattr(truth.rates[when], name) for when in ("before", "after"))
        found.append(f"{label}: {share(was)} before, {share(now)} after")
    found.append(told(truth))
    return found


def _rewarded(r: Rewarded) -> str:
    gain = (
        "not measured"
        if r.in_deviations is None
        else f"{r.in_deviations:+.2f} standard deviations of the rewards before"
    )
    return f"{number(r.before)} before, {number(r.after)} after; {number(r.difference)} a prompt, {gain}"
