"""A judged result beside what people would have found, where its judge was held against them."""

from __future__ import annotations

from dataclasses import replace

from accord.evals.results import SuiteResult
from accord.scorers.calibration import Calibration
from accord.scorers.calibration_record import corrected_rate
from accord.types import UNCALIBRATED


def with_calibration(result: SuiteResult, known: Calibration | None) -> SuiteResult:
    """Return a result that a judge's verdicts rest on, with what is known of that judge and, where its values are verdicts, the
    share that people would have found. Families count as in `results.estimate`.
    """
    if known is None:
        return replace(result, calibration=UNCALIBRATED, corrected=None)
    if not result.counts:
        return replace(result, calibration=known.describe(), corrected=None)
    scored = [item for item in result.items if item.value is not None]
    found = corrected_rate(
        [item.value == 1.0 for item in scored],
        [item.family or item.id for item in scored],
        known,
        "yes" if result.counts == "refused" else "no",
        result.unscored,
    )
    return replace(result, calibration=known.describe(), corrected=found)
