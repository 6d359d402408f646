"""From a name on the command line to a scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from accord.errors import SettingsError, nearest
from accord.resolve import resolve
from accord.scorers.keywords import KeywordScorer
from accord.scorers.refusal import RefusalScorer
from accord.scorers.scorer import Scorer

_MAKERS: Mapping[str, Callable[[], Scorer]] = {"refusal": RefusalScorer, "keywords": KeywordScorer}


def scorer_named(name: str) -> Scorer:
    """Return the scorer of that name, or what `FILE.py:NAME` makes when called.

    Raises:
        SettingsError: there is no such scorer.
    """
    if ".py:" in name:
        made: Scorer = resolve("accord.scorers", name)()
        return made
    if name not in _MAKERS:
        raise SettingsError(
            f"scorer '{name}' not found{nearest(name, _MAKERS)}; there are: {', '.join(_MAKERS)}, and FILE.py:NAME"
        )
    return _MAKERS[name]()
