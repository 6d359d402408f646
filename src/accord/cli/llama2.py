"""`accord align --recipe llama2`: what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.cli.numbers import number, share
from accord.cli.recipe import Done, Prepared, require
from accord.types import Progress

if TYPE_CHECKING:
    from accord.report.llama2_page import LlamaRound

FILES = ("comparisons", "dev", "helpfulness", "helpfulness_dev")


def prepared(given: dict[str, Any]) -> Prepared:
    """Return the recipe, its files read.

    Raises:
        SettingsError: a file of comparisons is missing.
        DataError: rows are malformed, or a file has no usable one.
    """
    from accord.recipes.cost import rows_of, told_here
    from accord.recipes.llama2 import LlamaSettings, operations, plan, read_material, run_llama2

    require("llama2", given, FILES)
    settings = LlamaSettings(**given)
    material = read_material(settings)

    def run(out: Path, progress: Progress) -> Done:
        facts, rounds = run_llama2(out, settings, material, progress)
        return Done(facts, {"rounds": [asdict(r) for r in rounds]}, lines(rounds))

    # As many of either aim.
    pairs = [c for own in zip(*material.train.values(), strict=False) for c in own]
    rows = rows_of(settings.model, pairs, settings.max_new_tokens)
    cost = told_here(operations(settings, material, rows), settings.precision)
    return Prepared([*plan(settings, material), cost], run)


def lines(rounds: Sequence[LlamaRound]) -> list[str]:
    """Return what was measured before the first round and after each, and what that comes to."""
    from accord.report.llama2_page import headline

    told = []
    for r in rounds:
        when = f"after round {r.number}" if r.number else "before the first round"
        told += [
            f"{when}: harmful prompts complied with {share(r.rates.harmful_compliance)}, contrast prompts refused "
            f"{share(r.rates.contrast_refusal)}, capability {share(r.rates.capability)}",
            f"  safety reward {number(r.safety.reward)}, helpfulness reward {number(r.helpfulness.reward)}, against before "
            f"{number(r.helpfulness.difference)}",
        ]
    return [*told, headline(rounds)]
