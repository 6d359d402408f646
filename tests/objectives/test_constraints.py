"""Several aims in one number: the multiplier of a limit, and Llama 2's combination of two reward models."""

import math

import pytest
import torch

from accord.errors import AccordError
from accord.objectives.combined_reward import piecewise
from accord.objectives.lagrangian import Multiplier


def test_the_multiplier_by_hand():
    """Limit 1, rate 0.1, a window of 2: costs 3, then 0. log: 0 + 0.1 (3 - 1) = 0.2; then 0.2 + 0.1 e^0.2 ((3 + 0)/2 - 1)."""
    after = Multiplier(limit=1, window=2).updated(3)
    assert after.log_lambda == pytest.approx(0.2)
    after = after.updated(0)
    assert after.log_lambda == pytest.approx(0.2 + 0.05 * math.exp(0.2))
    # The 3 has left the window.
    assert after.updated(0).costs == (0, 0)
    assert after.updated(0).log_lambda < after.log_lambda


def test_it_ends_where_it_is_told_to_and_stays_positive():
    multiplier = Multiplier(limit=0, rate=1, most=5)
    for _ in range(50):
        multiplier = multiplier.updated(10)
    assert multiplier.value == pytest.approx(5)
    multiplier = Multiplier(limit=10, rate=1)
    for _ in range(50):
        multiplier = multiplier.updated(0)
    assert 0 < multiplier.value < 0.2


def test_combined_by_hand():
    """lambda 1: (2 - 3) / 2 and (0 + 1) / 2."""
    assert Multiplier(limit=0).combined(torch.tensor([2.0, 0]), torch.tensor([3.0, -1])).tolist() == [-0.5, 0.5]


def test_a_batch_without_a_cost_does_not_move_it():
    with pytest.raises(AccordError, match="nan"):
        Multiplier(limit=0).updated(float("nan"))


def test_piecewise_by_hand():
    """Logits of safety -3, 3, 3 (probabilities .05, .95, .95), of helpfulness 9, 1, 5; the last prompt asks for safety.

    The first is unsafe: its safety counts. So -3, 1, 3 whitened: mean 1/3, deviation sqrt((100 + 4 + 64) / 9 / 2).
    """
    safety, helpfulness = torch.tensor([-3.0, 3, 3]), torch.tensor([9.0, 1, 5])
    result = piecewise(safety, helpfulness, torch.tensor([False, False, True]))
    s = math.sqrt(168 / 18)
    assert result.tolist() == pytest.approx([(-3 - 1 / 3) / s, (1 - 1 / 3) / s, (3 - 1 / 3) / s])


def test_no_spread_is_nothing_to_learn():
    same = torch.full((3,), 0.1)
    assert piecewise(same, same, torch.tensor([True, False, True])).tolist() == [0, 0, 0]
