"""How far predicted probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from accord.errors import DataError
from accord.stats.intervals import proportion
from accord.types import Estimate


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Predictions in [`low`, `high`): their mean, and how often what they predicted came true. `predicted` None where n is 0."""

    low: float
    high: float
    predicted: float | None
    observed: Estimate


def calibration_curve(
    predicted: Sequence[float], came_true: Sequence[bool], edges: Sequence[float]
) -> list[CalibrationBin]:
    """Return predictions against what happened, bin by bin; the last bin holds its upper edge too.

    Raises:
        DataError: the two differ in length, or a prediction is outside the edges.
    """
    if len(predicted) != len(came_true):
        raise DataError(f"{len(predicted)} predictions, but {len(came_true)} outcomes")
    if len(edges) < 2 and not predicted:
        return []
    p, y = np.asarray(predicted, dtype=float), np.asarray(came_true, dtype=bool)
    if not np.all((p >= edges[0]) & (p <= edges[-1])):
        raise DataError(f"predictions must lie between {edges[0]} and {edges[-1]}")
    bin_of = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, len(edges) - 2)
    bins: list[CalibrationBin] = []
    for k in range(len(edges) - 1):
        inside = bin_of == k
        mean = float(p[inside].mean()) if inside.any() else None
        bins.append(CalibrationBin(edges[k], edges[k + 1], mean, proportion(int(y[inside].sum()), int(inside.sum()))))
    return bins


def expected_calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Return the mean distance of observed rate and mean prediction over all predictions; None where there are none.

    Biased upwards in small samples: bins of few predictions differ from their rate by chance. Naeini et al. (2015), "Obtaining
    well calibrated probabilities using Bayesian binning", §2.
    """
    total = sum(b.observed.n for b in bins)
    distances = [
        b.observed.n * abs(b.observed.value - b.predicted)
        for b in bins
        if b.observed.value is not None and b.predicted is not None
    ]
    return sum(distances) / total if total else None
