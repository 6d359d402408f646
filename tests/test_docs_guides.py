"""The guides name verbs, options, suites, judges and filters that exist, and the limits that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from accord.cli import app as program
from accord.cli.findings import FILTERS
from accord.evals.evaluation import OWN_SUITES
from accord.evals.suites import jailbreak
from accord.evals.summary import NOT_AN_ANSWER_LIMIT
from accord.policy.schema import Gate
from accord.recipes.attacked import HELD_OUT, TRAINED
from accord.resolve import names_in
from accord.scorers.named import _MAKERS

DOCS = Path(__file__).parents[1] / "docs"
GUIDES = {
    name: (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("evals", "judges", "findings", "rl", "training", "instructgpt", "llama2")
}


@pytest.fixture(scope="module")
def options():
    """Every verb with its options."""
    program._register(["train"])
    root = typer.main.get_command(program.app)
    found = {}
    for name, command in root.commands.items():
        verbs = getattr(command, "commands", None)
        for verb, one in verbs.items() if verbs else [("", command)]:
            found[f"{name} {verb}".strip()] = {option for p in one.params for option in (*p.opts, *p.secondary_opts)}
    return found


@pytest.mark.parametrize("guide", GUIDES)
def test_every_command_of_a_guide_is_a_verb_with_these_options(guide, options):
    commands = re.findall(r"^    accord (?!:)(.+)$", GUIDES[guide], re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        first, second = command.split()[:2]
        known = options.get(f"{first} {second}") or options[first]
        assert set(re.findall(r"--[a-z-]+", command)) <= known, command


def test_the_tables_name_every_suite_and_every_judge():
    rows = set(re.findall(r"^\| `(\w+)", GUIDES["evals"], re.MULTILINE))
    named = set(names_in("accord.evals.suites"))
    assert rows == named - set(OWN_SUITES) | {jailbreak.__name__.rsplit(".", 1)[-1]}
    assert all(f"`{name}`" in GUIDES["evals"] for name in OWN_SUITES)
    judges = set(re.findall(r"^\| `([a-z]+)[`:]", GUIDES["judges"], re.MULTILINE))
    assert judges == set(_MAKERS)


def test_filters_and_limits_are_those_that_hold():
    assert all(f"`--{name}`" in GUIDES["findings"] for name in FILTERS)
    assert len((*TRAINED, *HELD_OUT)) == 11  # "the eleven tried"
    assert (NOT_AN_ANSWER_LIMIT, Gate.model_fields["max_unscored"].default) == (0.05, 0.05)
