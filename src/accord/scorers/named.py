"""From a name on the command line to a scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from accord.errors import SettingsError, nearest
from accord.policy import Policy
from accord.scorers.keywords import KeywordScorer
from accord.scorers.refusal import RefusalScorer
from accord.scorers.scorer import Scorer


def scorer_named(name: str, policy: Policy) -> Scorer:
    """Return the scorer of that name; rubrics and categories are the policy's.

    `FILE.py:NAME` is a function of one transcript, or a class of scorers.

    Raises:
        SettingsError: there is no such scorer, or the file lacks the name.
        ModelError: its model cannot be loaded.
    """
    kind, _, of = name.partition(":")
    if ".py:" in name:
        return _own(name)
    if kind in ("http", "https"):
        from accord.scorers.endpoint import EndpointScorer

        return EndpointScorer(name)
    if kind not in _MAKERS or bool(of) != (kind in _OF_SOMETHING):
        known = ", ".join(f"{k}:{_OF_SOMETHING[k]}" if k in _OF_SOMETHING else k for k in _MAKERS)
        raise SettingsError(
            f"scorer '{name}' not found{nearest(kind, _MAKERS)}; there are: {known}, an http(s) address, FILE.py:NAME"
        )
    return _MAKERS[kind](of, policy)


def _own(name: str) -> Scorer:
    from accord.resolve import resolve
    from accord.scorers.function import FunctionScorer

    found = resolve("accord.scorers", name)
    if isinstance(found, type):
        made: Scorer = found()
        return made
    return FunctionScorer(name)


def _evidence(_: str, __: Policy) -> Scorer:
    from accord.scorers.evidence import EvidenceScorer

    return EvidenceScorer(RefusalScorer())


def _rubric(model: str, policy: Policy) -> Scorer:
    from accord.models.load import load_model
    from accord.scorers.cache import VerdictCache
    from accord.scorers.rubric import RubricJudge

    return RubricJudge(load_model(model), policy, cache=VerdictCache())


def _constrained(model: str, policy: Policy) -> Scorer:
    from accord.models.load import load_model
    from accord.scorers.constrained import ConstrainedJudge

    return ConstrainedJudge(load_model(model), policy)


def _guard(model: str, policy: Policy) -> Scorer:
    from accord.models.load import load_model
    from accord.scorers.guard import GuardScorer

    return GuardScorer(load_model(model), policy)


def _remote(model: str, policy: Policy) -> Scorer:
    from accord.models.opening import open_completer
    from accord.scorers.remote import RemoteJudge

    return RemoteJudge(open_completer(model), policy)


def _classifier(file: str, _: Policy) -> Scorer:
    from accord.scorers.classifier import load_classifier

    return load_classifier(Path(file))


_MAKERS: Mapping[str, Callable[[str, Policy], Scorer]] = {
    "refusal": lambda _, __: RefusalScorer(),
    "keywords": lambda _, __: KeywordScorer(),
    "evidence": _evidence,
    "rubric": _rubric,
    "constrained": _constrained,
    "guard": _guard,
    "remote": _remote,
    "classifier": _classifier,
}
_OF_SOMETHING = {
    "rubric": "MODEL",
    "constrained": "MODEL",
    "guard": "MODEL",
    "remote": "openai:NAME@URL",
    "classifier": "FILE",
}
