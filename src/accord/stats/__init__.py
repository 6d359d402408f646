"""Numbers with their uncertainty: intervals, paired and clustered comparisons, agreement. Sees arrays only."""

from accord.stats.agreement import cohen_kappa, krippendorff_alpha, raw_agreement
from accord.stats.best_of import best_of, best_of_kl
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
from accord.stats.judge_error import JudgeError, rogan_gladen, rogan_gladen_clustered
from accord.stats.logistic import LogisticLine, logistic_line
from accord.stats.multiplicity import benjamini_hochberg, holm
from accord.stats.paired import PairedDifference, mcnemar_exact, newcombe_paired, paired_difference
from accord.stats.prediction_powered import prediction_powered_rate
from accord.stats.sample_size import detectable_paired, detectable_unpaired, size_paired, size_unpaired
from accord.stats.sequential import SequentialTest, sequential_interval, sequential_test

__all__ = [
    "CalibrationBin",
    "GroupedMean",
    "JudgeError",
    "LogisticLine",
    "PairedDifference",
    "SequentialTest",
    "WinRate",
    "benjamini_hochberg",
    "best_of",
    "best_of_kl",
    "calibration_curve",
    "cluster_bootstrap",
    "clustered_proportion",
    "cohen_kappa",
    "detectable_paired",
    "detectable_unpaired",
    "effective_size",
    "expected_calibration_error",
    "holm",
    "krippendorff_alpha",
    "logistic_line",
    "macro_mean",
    "mcnemar_exact",
    "mean",
    "micro_mean",
    "newcombe_paired",
    "paired_difference",
    "prediction_powered_rate",
    "proportion",
    "rank",
    "raw_agreement",
    "rogan_gladen",
    "rogan_gladen_clustered",
    "sequential_interval",
    "sequential_test",
    "size_paired",
    "size_unpaired",
    "win_rate",
    "worst_case_bounds",
]
