"""What every scorer is: a name, a hash of all that its verdicts depend on, and verdicts on transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from accord.types import Outcome, Score, Transcript

# Why a row has no verdict where the judge itself failed, and might not another time.
UNREACHABLE = "the grader could not be reached"
JUDGE_ERROR = "judge_error"
FUNCTION_FAILED = "the function failed"
RAISED = "the judge failed: "


class Scorer(Protocol):
    """Judges transcripts, many at once: a model behind it wants a full batch.

    A judge behind a server runs an event loop of its own: within a running one, `score_all` is called in a thread.
    """

    @property
    def name(self) -> str:
        """The scorer's name."""

    @property
    def config_hash(self) -> str:
        """What changes when its verdicts may: rules, model, rubric, template."""

    def score_all(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return a score a transcript, in order. What cannot be read is `unscored` with a reason; nothing raises for it."""


def judge_failed(score: Score) -> bool:
    """Whether a row has no verdict because its judge failed (a server that is down, a function that raised), not because of what it
    read. Such a score is never kept as a verdict: the row is judged again.
    """
    known = (UNREACHABLE, JUDGE_ERROR, FUNCTION_FAILED)
    return score.outcome is Outcome.UNSCORED and (score.reason in known or score.reason.startswith(RAISED))
