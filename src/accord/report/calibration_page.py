"""What is known of a scorer's error, as one HTML file that needs nothing else: beside people, and beside a list of keywords."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accord.report import plots
from accord.report.describe import percent
from accord.report.rendering import render_page
from accord.runs.atomic import write_text
from accord.scorers.calibration import Agreement, Calibration, Stratum, verdict_of
from accord.scorers.labels import NO, YES, LabelledAnswer
from accord.stats.judge_error import JudgeError
from accord.types import Estimate, Score

_ASKED = {
    "refusal": "was the request refused?",
    "objective": "was the objective achieved?",
    "harm": "is the answer harmful?",
}
_SHOWN = 100
_FEW = 50


@dataclass(frozen=True, slots=True)
class Rater:
    """One row of the table; a number that such a rater cannot have is None."""

    name: str
    note: str
    role: str
    agreement: Estimate
    sensitivity: Estimate | None
    specificity: Estimate | None
    kappa: Estimate
    alpha: Estimate


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One answer that people and the scorer call differently."""

    row: LabelledAnswer
    score: Score
    verdict: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the template shows, computed."""

    calibration: Calibration
    asked: str
    yes: str
    no: str
    headline: str
    warnings: tuple[str, ...]
    raters: tuple[Rater, ...]
    outcomes: tuple[tuple[str, dict[str, int]], ...]
    strata: tuple[Stratum, ...]
    by_stratum: plots.Picture | None
    reliability: plots.Picture | None
    disagreements: tuple[Disagreement, ...]
    n_more: int


def write_page(calibration: Calibration, path: Path) -> Path:
    """Write the page, whole or not at all, and return its path.

    Raises:
        InputError: the folder cannot be written.
    """
    write_text(path, render(calibration))
    return path


def render(calibration: Calibration) -> str:
    """Return the page as HTML."""
    return render_page("calibration.html", view(calibration))


def view(calibration: Calibration) -> View:
    """Compute everything that the page shows."""
    c = calibration
    rows = [(f"{s.of}: {s.name} (n = {s.agreement.n})", s.agreement) for s in c.strata]
    return View(
        calibration=c,
        asked=_ASKED[c.question],
        yes=YES[c.question],
        no=NO[c.question],
        headline=_headline(c),
        warnings=_warnings(c),
        raters=_raters(c),
        outcomes=_outcomes(c),
        strata=c.strata,
        by_stratum=plots.shares(rows, "Agreement with people"),
        reliability=plots.reliability(c.curve),
        disagreements=tuple(
            Disagreement(row, score, verdict_of(c.question, score) or "") for row, score in c.disagreements[:_SHOWN]
        ),
        n_more=max(0, len(c.disagreements) - _SHOWN),
    )


def _headline(c: Calibration) -> str:
    mine, theirs = c.measured.agreement, c.humans.agreement if c.humans else None
    if mine.value is None:
        return f"Nothing was measured: none of {c.n_rows:,} rows could be compared."
    beside = (
        f"; two people agree with each other on {percent(theirs.value)}" if theirs and theirs.value is not None else ""
    )
    return (
        f"The scorer “{c.scorer}” agrees with people on {percent(mine.value)} of {mine.n:,} answers{beside}; a list of "
        f"keywords on {percent(c.keywords.agreement.value)}."
    )


def _warnings(c: Calibration) -> tuple[str, ...]:
    lines = []
    mine, base = c.measured.agreement, c.keywords.agreement
    if mine.low is not None and base.value is not None and mine.low <= base.value and c.scorer != "keywords":
        lines.append("This evidence does not show the scorer to be better than a list of keywords.")
    if not c.yes.measured or _power(c.yes) <= 0:
        lines.append(
            "Sensitivity + specificity is not shown to be above 1: a rate cannot be corrected for this scorer’s error."
        )
    for what, n in (("yes", c.measured.sensitivity.n), ("no", c.measured.specificity.n)):
        if n < _FEW:
            label = YES[c.question] if what == "yes" else NO[c.question]
            lines.append(f"Only {n} answers that people call “{label}”: what is known of the error on them is rough.")
    total = mine.n + mine.n_unscored
    if total and mine.n_unscored > 0.05 * total:
        lines.append(f"The scorer had no verdict on {mine.n_unscored:,} of {total:,} answers; they are in no rate.")
    return tuple(lines)


def _power(error: JudgeError) -> float:
    return error.youden()[0]


def _raters(c: Calibration) -> tuple[Rater, ...]:
    def held(name: str, note: str, role: str, a: Agreement) -> Rater:
        return Rater(name, note, role, a.agreement, a.sensitivity, a.specificity, a.kappa, a.alpha)

    rows = [held(c.scorer, c.config_hash, "after", c.measured)]
    if c.humans is not None:
        note = f"pairs of raters, on {c.humans.n_rows:,} rows that have several"
        rows.append(
            Rater("People among themselves", note, "", c.humans.agreement, None, None, c.humans.kappa, c.humans.alpha)
        )
    return (*rows, held("Keywords", "a list of phrases, text normalised", "before", c.keywords))


def _outcomes(c: Calibration) -> tuple[tuple[str, dict[str, int]], ...]:
    """Return, for each of the scorer's outcomes, how many rows people gave each label."""
    labels = sorted({label for label, _ in c.confusion})
    outcomes = sorted({str(outcome) for _, outcome in c.confusion})
    counted = {(label, str(outcome)): n for (label, outcome), n in c.confusion.items()}
    return tuple((o, {label: counted.get((label, o), 0) for label in labels}) for o in outcomes)
