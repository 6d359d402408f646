"""From a name on the command line to a scorer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.errors import SettingsError, nearest
from accord.policy import Policy
from accord.scorers.keywords import KeywordScorer
from accord.scorers.refusal import RefusalScorer
from accord.scorers.scorer import Scorer

if TYPE_CHECKING:
    from accord.scorers.reward import Direction


def scorer_named(name: str, policy: Policy) -> Scorer:
    """Return the scorer of that name; rubrics and categories are the policy's.

    `FILE.py:NAME` is a function of one transcript, or a class of scorers. Options follow a name as `,OPTION=VALUE`.

    Raises:
        SettingsError: there is no such scorer, an option is unknown or lacking, or the file lacks the name.
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
    of, options = _with_options(kind, of)
    return _MAKERS[kind](of, policy, **options)


def _with_options(kind: str, of: str) -> tuple[str, dict[str, Any]]:
    """Part what a scorer is made of from its options; of a kind that has none, every comma is the name's own."""
    known = _OPTIONS.get(kind, {})
    if not known:
        return of, {}
    bare = _GIVEN.sub("", of)
    options: dict[str, Any] = {}
    for name, value in _OPTION.findall(of[len(bare) :]):
        if name not in known:
            raise SettingsError(
                f"scorer '{kind}' has no option '{name}'{nearest(name, known)}; it has: {', '.join(known)}"
            )
        try:
            options[name] = known[name](value)
        except ValueError as error:
            raise SettingsError(f"scorer '{kind}': {name}={value}: {error}") from None
    return bare, options


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


def _rubric(model: str, policy: Policy, reasoning_tokens: int = 0) -> Scorer:
    from accord.models.load import load_model
    from accord.scorers.cache import VerdictCache
    from accord.scorers.rubric import RubricJudge

    return RubricJudge(load_model(model), policy, reasoning_tokens=reasoning_tokens, cache=VerdictCache())


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


def _reward(model: str, _: Policy, border: float | None = None) -> Scorer:
    if border is None:
        raise SettingsError(
            f"scorer 'reward:{model}': a reward has no zero, so say below which number an answer is a bad one: "
            f"reward:{model},border=NUMBER"
        )
    return _ranking(model, "reward", border)


def _cost(model: str, _: Policy, border: float = 0.0) -> Scorer:
    return _ranking(model, "cost", border)


def _ranking(model: str, direction: Direction, border: float) -> Scorer:
    from accord.models.reward import load_reward_model
    from accord.scorers.reward import RewardScorer

    return RewardScorer(load_reward_model(model), direction, border)


def _classifier(file: str, _: Policy) -> Scorer:
    from accord.scorers.classifier import load_classifier

    return load_classifier(Path(file))


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError("expected a whole number above 0")
    return int(text)


_MAKERS: Mapping[str, Callable[..., Scorer]] = {
    "refusal": lambda _, __: RefusalScorer(),
    "keywords": lambda _, __: KeywordScorer(),
    "evidence": _evidence,
    "rubric": _rubric,
    "constrained": _constrained,
    "guard": _guard,
    "remote": _remote,
    "classifier": _classifier,
    "reward": _reward,
    "cost": _cost,
}
_OF_SOMETHING = {
    "rubric": "MODEL",
    "constrained": "MODEL",
    "guard": "MODEL",
    "remote": "openai:NAME@URL",
    "classifier": "FILE",
    "reward": "RUN,border=NUMBER",
    "cost": "RUN",
}
_OPTIONS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "rubric": {"reasoning_tokens": _count},
    "reward": {"border": _number},
    "cost": {"border": _number},
}
_OPTION = re.compile(r",(\w+)=([^,]*)")
_GIVEN = re.compile(rf"(?:{_OPTION.pattern})+$")
