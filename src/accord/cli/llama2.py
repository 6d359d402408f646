"""`accord align --recipe llama2`: what it prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord.cli.numbers import number, share
from accord.errors import SettingsError
from accord.types import Progress

FILES = {"comparisons": "comparisons", "dev": "dev", "helpfulness": "helpfulness", "helpfulness_dev": "helpfulness-dev"}


def run(out: Path, given: dict[str, Any], dry_run: bool, as_json: bool, progress: Progress) -> None:
    """Run the recipe in `out`, or say what it would do.

    Raises:
        SettingsError: a file of comparisons is missing.
    """
    from accord.recipes.llama2 import LlamaSettings, plan, read_material, run_llama2
    from accord.report.llama2_page import headline

    if missing := [f"--{option}" for name, option in FILES.items() if not given[name]]:
        raise SettingsError(
            "recipe llama2 learns safety and helpfulness from comparisons, and is measured on held-out ones: give "
            + ", ".join(missing)
        )
    settings = LlamaSettings(**given)
    material = read_material(settings)
    for line in plan(settings, material):
        progress.say(line)
    if dry_run:
        progress.say("dry run: nothing was written")
        return
    facts, rounds = run_llama2(out, settings, material, progress)
    if as_json:
        print(json.dumps({"facts": facts, "rounds": [asdict(r) for r in rounds]}))
        return
    for r in rounds:
        when = f"after round {r.number}" if r.number else "before the first round"
        print(f"{when}: harmful prompts complied with {share(r.rates.harmful_compliance)}, contrast prompts refused "
              f"{share(r.rates.contrast_refusal)}, capability {share(r.rates.capability)}")  # fmt: skip
        print(f"  safety reward {number(r.safety.reward)}, helpfulness reward {number(r.helpfulness.reward)}, against before "
              f"{number(r.helpfulness.difference)}")  # fmt: skip
    print(headline(rounds))
    print(f"report: {facts['report']}")
    print(f"model: {facts['model']}    talk to it: accord chat {facts['model']}")
