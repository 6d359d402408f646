"""What no scorer needs to think about: an answer that is not there."""

from __future__ import annotations

from accord.scorers.degenerate import is_empty
from accord.scorers.normalise import fold
from accord.types import Outcome, Score, Transcript


def blank(transcript: Transcript, scorer: str) -> Score | None:
    """Return the score of an empty answer that called no tool, else None."""
    if transcript.actions or not is_empty(fold(transcript.answer)):
        return None
    return Score(Outcome.EMPTY, scorer, "no letter or digit in the answer")
