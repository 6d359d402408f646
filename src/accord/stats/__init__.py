"""Numbers with their uncertainty: intervals, paired and clustered comparisons, agreement. Sees arrays only."""

from accord.stats.agreement import cohen_kappa, raw_agreement
from accord.stats.bootstrap import cluster_bootstrap, clustered_proportion, effective_size
from accord.stats.calibration import CalibrationBin, calibration_curve, expected_calibration_error
from accord.stats.intervals import (
    GroupedMean,
    WinRate,
    macro_mean,
    mean,
    micro_mean,
    proportion,
    rank,
    win_rate,
    worst_case_bounds,
)
from accord.stats.logistic import LogisticLine, logistic_line
from accord.stats.paired import PairedDifference, mcnemar_exact, newcombe_paired, paired_difference

__all__ = [
    "CalibrationBin",
    "GroupedMean",
    "LogisticLine",
    "PairedDifference",
    "WinRate",
    "calibration_curve",
    "cluster_bootstrap",
    "clustered_proportion",
    "cohen_kappa",
    "effective_size",
    "expected_calibration_error",
    "logistic_line",
    "macro_mean",
    "mcnemar_exact",
    "mean",
    "micro_mean",
    "newcombe_paired",
    "paired_difference",
    "proportion",
    "rank",
    "raw_agreement",
    "win_rate",
    "worst_case_bounds",
]
