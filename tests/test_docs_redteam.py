"""docs/redteam.md names options that exist and says the defaults that hold."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from accord.cli.eval import evaluate_model
from accord.cli.redteam import redteam
from accord.models.asking import AT_ONCE, RETRIES
from accord.models.openai import KEY_VARIABLE, TIMEOUT_S
from accord.redteam.campaign import Plan
from accord.redteam.summary import UNSCORED_LIMIT

PAGE = (Path(__file__).parents[1] / "docs" / "redteam.md").read_text(encoding="utf-8")


def test_every_option_on_the_page_is_one_of_the_commands():
    parameters = {*inspect.signature(redteam).parameters, *inspect.signature(evaluate_model).parameters}
    known = {"--" + name.strip("_").replace("_", "-") for name in parameters}
    assert set(re.findall(r"--[a-z-]+", PAGE)) <= known


def test_the_defaults_on_the_page_hold():
    assert (Plan().uniform_share, RETRIES, UNSCORED_LIMIT) == (0.5, 5, 0.05)
    assert f"within {TIMEOUT_S:g} s" in PAGE
    assert f"Up to {AT_ONCE} questions" in PAGE
    assert KEY_VARIABLE in PAGE
