import math

import numpy as np
import pytest

from accord.errors import DataError
from accord.stats.paired import mcnemar_exact
from accord.stats.sample_size import pairs_needed, size_paired


def alone(changes):
    return changes, [str(i) for i in range(len(changes))]


def test_connor_by_hand():
    """20 pairs, 6 gained, 1 lost: psi = 0.35, delta = 0.25.

    (1.95996 sqrt(0.35) + 0.84162 sqrt(0.35 - 0.0625))^2 / 0.0625 = (1.15953 + 0.45127)^2 / 0.0625 = 41.5, so 42.
    """
    assert pairs_needed(*alone([1] * 6 + [-1] + [0] * 13), 0.25, True) == 42


def test_half_the_difference_needs_about_four_times_the_pairs():
    changes = alone([1] * 6 + [-1] * 4 + [0] * 90)
    assert pairs_needed(*changes, 0.02, True) / pairs_needed(*changes, 0.04, True) == pytest.approx(4, 0.05)
    assert pairs_needed(*changes, -0.02, True) == pairs_needed(*changes, 0.02, True)


def test_forms_of_one_goal_need_more():
    changes = [1, 1, 0, 0] * 10
    assert pairs_needed(changes, [str(i // 4) for i in range(40)], 0.3, True) > 1.5 * pairs_needed(
        *alone(changes), 0.3, True
    )


def test_a_difference_implies_the_disagreement_it_needs():
    """No pair disagrees, yet a difference of 0.1 takes a tenth that do: 1.95996 sqrt(.1) + .84162 sqrt(.09) squared / .01."""
    expected = math.ceil((1.959964 * math.sqrt(0.1) + 0.841621 * 0.3) ** 2 / 0.01)
    assert pairs_needed(*alone([0] * 50), 0.1, True) == expected


def test_the_borders():
    assert pairs_needed([], [], 0.1, True) is None
    assert pairs_needed(*alone([1, -1]), 0.0, True) is None
    with pytest.raises(DataError):
        pairs_needed([1], [], 0.1, True)


def test_at_the_needed_size_four_studies_in_five_find_it():
    """Simulated: 15 % gained, 5 % lost. McNemar's exact test is conservative, so the share may fall a little short."""
    rng = np.random.default_rng(0)
    n = pairs_needed(*alone([1] * 15 + [-1] * 5 + [0] * 80), 0.1, True)
    draws = rng.multinomial(n, [0.15, 0.05, 0.8], size=400)
    found = np.mean([mcnemar_exact(lost, gained) < 0.05 for gained, lost, _ in draws])
    assert 0.72 < found < 0.88


def test_with_one_item_a_family_it_is_the_formula_of_rates():
    changes = alone([1] * 6 + [-1] * 2 + [0] * 32)
    assert pairs_needed(*changes, 0.1, True) == size_paired(0.1, 0.2)
