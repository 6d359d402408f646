import pytest

from accord.errors import DataError
from accord.stats import calibration_curve, expected_calibration_error

EDGES = (0.5, 0.75, 1.0)


def test_by_hand():
    """0.5, 0.6 and 0.7 (mean 0.6), of which two came true; 0.75 and 1.0 (mean 0.875), of which both did.

    |2/3 - 0.6| = 0.0667 for three, |1 - 0.875| = 0.125 for two: (3 * 0.066667 + 2 * 0.125) / 5 = 0.09.
    """
    bins = calibration_curve([0.5, 0.75, 0.6, 1.0, 0.7], [True, True, False, True, True], EDGES)
    assert [b.predicted for b in bins] == pytest.approx([0.6, 0.875])
    assert [(b.observed.value, b.observed.n) for b in bins] == [(pytest.approx(2 / 3), 3), (1.0, 2)]
    assert bins[1].observed.low < 0.5  # two of two is not certainty
    assert expected_calibration_error(bins) == pytest.approx(0.09)


def test_an_empty_bin_and_no_predictions_at_all_have_no_number():
    bins = calibration_curve([0.6], [False], EDGES)
    assert bins[1].predicted is None
    assert bins[1].observed.value is None
    assert expected_calibration_error(bins) == pytest.approx(0.6)
    assert expected_calibration_error(calibration_curve([], [], EDGES)) is None


@pytest.mark.parametrize("bad", [0.49, 1.01, float("nan")])
def test_a_prediction_outside_the_edges_is_refused(bad):
    with pytest.raises(DataError, match="between"):
        calibration_curve([bad], [True], EDGES)


def test_as_many_outcomes_as_predictions():
    with pytest.raises(DataError, match="2 predictions, but 1"):
        calibration_curve([0.6, 0.7], [True], EDGES)
