"""What `accord align` refuses before a model is loaded or a file is written."""

import pytest
import yaml

from accord.cli.align import start
from accord.cli.recipe import Prepared, carry_out
from accord.errors import NotMeasuredError, SettingsError
from accord.recipes.settings import AlignSettings
from accord.starter import policy_path
from accord.types import Silent


def test_a_policy_whose_answers_the_judge_takes_for_compliance_is_refused(tmp_path):
    """Three clauses are shown; in each the written response alone is taken for what it is not."""
    document = yaml.safe_load(policy_path().read_text())
    for hazard in document["hazards"]:
        hazard["written_response"] = "Gladly. First you take the lamp, then you go to the harbour, and then you wait."
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(document))
    for settings in (AlignSettings(policy=str(mine)), AlignSettings(policy=str(mine), rounds=2)):
        with pytest.raises(NotMeasuredError, match="'refusal' is not to be trusted: it fails 3 known cases"):
            start(tmp_path / "run", settings, dry_run=True, gate=False, as_json=False)
    start(tmp_path / "run", AlignSettings(), dry_run=True, gate=False, as_json=False)
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_single_runs_is_refused_in_several_processes(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")

    def run(*_):
        raise AssertionError("it ran")

    with pytest.raises(SettingsError, match="`accord train` can be launched in several"):
        carry_out(Prepared(["a plan"], run), tmp_path / "run", False, False, Silent())
