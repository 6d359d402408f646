"""From a template and what it shows to a page, one HTML file that needs nothing else; every page is made here.

Words are made in `describe` and its like, pictures in `plots`; a template only places them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import accord
from accord.evals.summary import NOT_AN_ANSWER_LIMIT, possible_range, unscored_share
from accord.report import compared, describe, rounds, transcripts
from accord.runs.atomic import write_atomic
from accord.types import Estimate, Outcome

_HERE = Path(__file__).parent


def render_page(template: str, view: Any) -> str:
    """Return the page that a template makes of `view`."""
    return _environment().get_template(template).render(view=view, version=accord.__version__)


def write_page(text: str, path: Path) -> Path:
    """Write a page, whole or not at all, and return its path.

    Raises:
        InputError: if the file cannot be written.
    """
    content = text.encode("utf-8")

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomic(path, write)
    return path


def _wide_range(estimate: Estimate) -> str:
    """Return what the unscored attempts could make of a rate, where they are many enough to matter; else nothing."""
    share, bounds = unscored_share(estimate), possible_range(estimate)
    if share is None or bounds is None or share <= NOT_AN_ANSWER_LIMIT:
        return ""
    return f"{describe.percent(bounds[0])} to {describe.percent(bounds[1])} if the unscored are counted either way"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        # Every text on the page comes from a model, a user or a file; none may hide what it is.
        finalize=lambda value: transcripts.printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=describe.percent,
        points=describe.points,
        interval=describe.interval,
        points_interval=describe.points_interval,
        counts=describe.counts,
        p_value=describe.p_value,
        per_success=describe.per_success,
        duration=describe.duration,
        moment=describe.moment,
        gate_words=describe.gate_words,
        proved=rounds.proved,
        wide_range=_wide_range,
        measure=compared.title,
        side=compared.value,
        side_interval=compared.value_interval,
        change=compared.difference,
        change_interval=compared.difference_interval,
        no_pairs=compared.no_pairs,
        needed=compared.needed,
    )
    environment.globals.update(
        folded=transcripts.folded,
        outcomes=tuple(Outcome),
        # The one text that is not escaped: our own style sheet, which has no markup in it.
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
    )
    return environment
