"""Reads the verdict out of a judge's reply. Strict: what is not one verdict in the stated form is no verdict.

The form: `[[LABEL]]` (any case, anywhere, but no other label beside it), or a JSON object `{"verdict": "LABEL"}` as the whole reply
or its last line. Text is read in NFKC without invisible characters, thoughts in `<think>` left out.

What is judged can never supply a verdict. Where it holds anything that resembles one, the judge is asked for a *sealed* verdict,
`[[LABEL mark]]` or `{"verdict": "LABEL", "mark": "mark"}`, with a mark that the judged text cannot contain (`quoting.mark_of`),
and no other counts. Where it holds none, an echo of it holds none either. Left out: a judge that is talked round by what it
reads; that is an error of the judge, which calibration measures.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord.scorers.degenerate import is_empty, without_thoughts
from accord.scorers.normalise import fold
from accord.scorers.refusal import read
from accord.scorers.scorer import JUDGE_ERROR
from accord.scorers.speech_acts import Act

_RESEMBLES = re.compile(r"\[\s*\[|verdict", re.IGNORECASE)
_UNFINISHED_THOUGHT = re.compile(r"<think(?:ing)?>.*", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)


class Problem(enum.StrEnum):
    """Why a reply holds no verdict. These are reasons of unscored rows, counted as they are spelled."""

    EMPTY = "judge_empty"
    REFUSED = "judge_refused"
    UNPARSED = "judge_unparsed"
    CONTRADICTORY = "judge_contradictory"
    TRUNCATED = "judge_truncated"
    ERROR = JUDGE_ERROR


@dataclass(frozen=True, slots=True)
class Reading:
    """A label, as the caller spells it, or why there is none."""

    label: str | None
    problem: Problem | None = None


def resembles_verdict(judged: str) -> bool:
    """Whether a text holds anything that a reader, or a judge that quotes it, could make a verdict of."""
    return bool(_RESEMBLES.search(fold(judged)))


def read_verdict(reply: str, labels: Sequence[str], seal: str = "") -> Reading:
    """Return the one label that a reply gives; with `seal`, only verdicts that carry it count."""
    text = without_thoughts(fold(reply))
    if is_empty(text):
        return Reading(None, Problem.EMPTY)
    text = _UNFINISHED_THOUGHT.sub("", text)
    said = _bracketed(text, labels, seal) | _in_json(text, labels, seal)
    if len(said) > 1:
        return Reading(None, Problem.CONTRADICTORY)
    if said:
        return Reading(said.pop())
    acts = read(text).acts
    return Reading(None, Problem.REFUSED if acts and acts[0] is Act.DECLINE else Problem.UNPARSED)


def _bracketed(text: str, labels: Sequence[str], seal: str) -> set[str]:
    known = {label.lower(): label for label in labels}
    inside = rf"({'|'.join(map(re.escape, known))})" + (rf"\s+{re.escape(seal)}" if seal else "")
    found = re.findall(rf"\[\[\s*{inside}\s*\]\]", text, re.IGNORECASE)
    return {known[label.lower()] for label in found}


def _in_json(text: str, labels: Sequence[str], seal: str) -> set[str]:
    """Return the labels of a JSON verdict; two of them where a key occurs twice."""
    known = {label.lower(): label for label in labels}
    bare = _FENCE.sub("", text).strip()
    for candidate in (bare, bare.rsplit("\n", 1)[-1]):
        try:
            pairs: Any = json.loads(candidate, object_pairs_hook=list)
        except (ValueError, RecursionError):
            continue
        if not isinstance(pairs, list) or not all(isinstance(p, tuple) for p in pairs):
            continue
        marks = [value for key, value in pairs if key == "mark"]
        if seal and marks != [seal]:
            continue
        values = [value for key, value in pairs if key == "verdict"]
        return {known[v.lower()] for v in values if isinstance(v, str) and v.lower() in known}
    return set()
