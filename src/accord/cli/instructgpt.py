"""`accord align --recipe instructgpt`: what it prints."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.cli.numbers import number, share
from accord.cli.recipe import Done, Prepared, require
from accord.types import Progress

if TYPE_CHECKING:
    from accord.report.reinforcement import Rewarded, Truth

FILES = ("comparisons", "dev")


def prepared(given: dict[str, Any]) -> Prepared:
    """Return the recipe, its files read.

    Raises:
        SettingsError: comparisons or held-out ones are missing.
        DataError: rows are malformed, or there are too few to part.
    """
    from accord.recipes.cost import rows_of, told_here
    from accord.recipes.instructgpt import InstructSettings, operations, plan, read_material, run_instructgpt

    require("instructgpt", given, FILES)
    settings = InstructSettings(**given)
    material = read_material(settings)

    def run(out: Path, progress: Progress) -> Done:
        facts, truth = run_instructgpt(out, settings, material, progress)
        told = lines(truth)
        if facts["ppo"]["ended early"] != "no":
            told.append(f"reinforcement learning ended early: {facts['ppo']['ended early']}")
        return Done(facts, {"truth": asdict(truth)}, told)

    rows = rows_of(settings.model, material.train, settings.max_new_tokens)
    cost = told_here(operations(settings, material, rows), settings.precision)
    return Prepared([*plan(settings, material), cost], run)


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
