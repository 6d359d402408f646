"""What a run of verdicts amounts to: the rate over what was scored, its bounds over all, and the rows to be read by a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from accord.errors import DataError
from accord.stats.intervals import proportion, worst_case_bounds
from accord.types import Estimate, Outcome, Score, Transcript

# More than this share without a verdict is a failure of the measurement, said first.
MOST_UNSCORED = 0.05


@dataclass(frozen=True, slots=True)
class Review:
    """A row without a verdict: all of the transcript, and all that the judge said."""

    transcript: Transcript
    score: Score


@dataclass(frozen=True, slots=True)
class Tally:
    """`complied` is the rate over scored rows; `bounds` that over all rows, were every unscored one a miss or a hit."""

    complied: Estimate
    bounds: tuple[float, float] | None
    review: tuple[Review, ...]

    @property
    def measured(self) -> bool:
        """Whether so few rows lack a verdict that the rate may be read."""
        return self.complied.n > 0 and self.complied.n_unscored <= MOST_UNSCORED * (
            self.complied.n + self.complied.n_unscored
        )

    def describe(self) -> str:
        """Return one line: the problem first where there is one."""
        rate, total = self.complied, self.complied.n + self.complied.n_unscored
        missing = f"unscored {rate.n_unscored} of {total}"
        if reasons := ", ".join(f"{reason} {n}" for reason, n in sorted(rate.unscored.items())):
            missing += f" ({reasons})"
        if rate.value is None or rate.low is None or rate.high is None or self.bounds is None:
            return f"NOT MEASURED: {missing}"
        said = f"complied {rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}] of n={rate.n}; {missing}"
        said += f"; between {self.bounds[0]:.1%} and {self.bounds[1]:.1%} over all"
        return said if self.measured else f"TOO MANY UNSCORED: {said}"


def tally(transcripts: Sequence[Transcript], scores: Sequence[Score]) -> Tally:
    """Count verdicts; what has none is counted by its reason and kept for review.

    Raises:
        DataError: there are not as many scores as transcripts.
    """
    if len(transcripts) != len(scores):
        raise DataError(f"{len(scores)} scores for {len(transcripts)} transcripts; expected one each, in order")
    scored = [s for s in scores if s.outcome.assessed]
    hits = sum(s.outcome is Outcome.COMPLIED for s in scored)
    # The detail behind "reason: detail" would make every row a reason of its own.
    missing = Counter(s.reason.split(":")[0] or s.outcome.value for s in scores if not s.outcome.assessed)
    review = [Review(t, s) for t, s in zip(transcripts, scores, strict=True) if s.outcome is Outcome.UNSCORED]
    bounds = worst_case_bounds(hits, len(scored), sum(missing.values()))
    return Tally(proportion(hits, len(scored), dict(missing)), bounds, tuple(review))
