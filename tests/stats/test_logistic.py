import math

import pytest

from accord.errors import DataError
from accord.stats import logistic_line


def test_two_points_are_met_exactly():
    """(3 + 0.5) / 8 = 0.4375 and (6 + 0.5) / 8 = 0.8125, logits -0.2513 and 1.4663: slope 1.7176 over a step of 1."""
    line = logistic_line([1.0, 2.0], [3, 6], [7, 7])
    assert line.at(1.0) == pytest.approx(0.4375, abs=1e-6)
    assert line.at(2.0) == pytest.approx(0.8125, abs=1e-6)
    assert line.slope == pytest.approx(math.log(0.8125 / 0.1875) - math.log(0.4375 / 0.5625), abs=1e-5)


def test_a_point_with_more_behind_it_counts_more():
    light = logistic_line([0, 1, 2], [50, 5, 90], [100, 10, 100]).at(1)
    heavy = logistic_line([0, 1, 2], [50, 500, 90], [100, 1000, 100]).at(1)
    assert abs(heavy - 0.5) < abs(light - 0.5)


@pytest.mark.parametrize(("hits", "side"), [([0, 0, 0], 0.0), ([9, 9, 9], 1.0)])
def test_all_equal_is_near_its_border_and_flat(hits, side):
    line = logistic_line([0.8, 1.0, 1.2], hits, [9, 9, 9])
    assert line.slope == pytest.approx(0, abs=1e-6)
    assert line.at(1.0) == pytest.approx(abs(side - 0.05), abs=1e-6)  # half of ten


def test_perfectly_separated_points_give_a_finite_line():
    line = logistic_line([0.0, 1.0], [0, 9], [9, 9])
    assert math.isfinite(line.slope)
    assert line.slope > 0


@pytest.mark.parametrize(("x", "n"), [([], []), ([1.0], [5]), ([1.0, 1.0], [5, 5]), ([1.0, 2.0], [5, 0])])
def test_no_line_without_two_measured_values(x, n):
    with pytest.raises(DataError, match="two values"):
        logistic_line(x, [0] * len(x), n)
