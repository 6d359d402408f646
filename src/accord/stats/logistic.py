"""A rate that rises or falls with one dial."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from accord.errors import DataError


@dataclass(frozen=True, slots=True)
class LogisticLine:
    """The rate at x is 1 / (1 + exp(-(intercept + slope x)))."""

    intercept: float
    slope: float

    def at(self, x: float) -> float:
        """Return the rate at x."""
        return 1 / (1 + math.exp(-(self.intercept + self.slope * x)))


def logistic_line(x: Sequence[float], hits: Sequence[int], n: Sequence[int]) -> LogisticLine:
    """Fit the rates `hits / n` at the values x by maximum likelihood, with half a hit and half a miss added at each.

    What is added keeps the fit finite where every rate is 0 or 1; it is the logistic model's form of Jeffreys' prior for one
    rate. Points measured on the same subjects are no independent samples: the line is right, an interval around it would not be,
    and none is given. (Statsmodels' GLM warns of separation where these half counts forbid it.)

    Raises:
        DataError: fewer than two different x have anything measured.
    """
    known = [(a, h, m) for a, h, m in zip(x, hits, n, strict=True) if m > 0]
    if len({a for a, _, _ in known}) < 2:
        raise DataError(f"a line needs rates at two values at least; {len(known)} of {len(x)} have anything measured")
    a, h, m = (np.asarray(values, dtype=float) for values in zip(*known, strict=True))
    h, m, centre, spread = h + 0.5, m + 1.0, a.mean(), a.std()
    u = (a - centre) / spread

    def negative_log_likelihood(b: np.ndarray) -> tuple[float, np.ndarray]:
        z = b[0] + b[1] * u
        error = m * expit(z) - h
        return float((m * np.logaddexp(0, z) - h * z).sum()), np.array([error.sum(), (error * u).sum()])

    fit = minimize(negative_log_likelihood, np.zeros(2), jac=True, options={"gtol": 1e-9})
    slope = fit.x[1] / spread
    return LogisticLine(float(fit.x[0] - slope * centre), float(slope))
