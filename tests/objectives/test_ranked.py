import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.objectives.bradley_terry import Ranked, bradley_terry
from accord.objectives.cost import Bordered, cost
from accord.objectives.distillation import distillation
from accord.objectives.reduction import Totals, reduce

LN2 = math.log(2)


def t(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def one(better, worse, **more):
    return Ranked(t(better), t(worse), torch.tensor([0]), 1, **more)


def test_by_hand():
    """Scores 2 and 1: ln(1 + e^-1) = 0.313262. With a margin of 1 the lead is gone: ln 2."""
    losses = bradley_terry(one(2.0, 1.0))
    assert losses.loss_B.tolist() == pytest.approx([0.313262], abs=1e-6)
    got = {name: value.tolist() for name, value in losses.metrics.items()}
    assert got == {"margin": [1.0], "accuracy": [1.0], "chosen_reward": [2.0], "rejected_reward": [1.0]}
    assert bradley_terry(one(2.0, 1.0, margin_P=t(1.0))).loss_B.item() == pytest.approx(LN2)


def test_a_soft_label_by_hand():
    """q = 0.75, scores 2 and 1: 0.75 * 0.313262 + 0.25 * 1.313262 = 0.563262."""
    assert bradley_terry(one(2.0, 1.0, preference_P=t(0.75))).loss_B.item() == pytest.approx(0.563262, abs=1e-6)


def test_centring_by_hand():
    """0.313262 + 0.01 * (2 + 1)^2 = 0.403262; scores that add up to 0 cost nothing."""
    assert bradley_terry(one(2.0, 1.0), centring=0.01).loss_B.item() == pytest.approx(0.403262, abs=1e-6)
    assert bradley_terry(one(0.5, -0.5), centring=0.01).loss_B.item() == pytest.approx(0.313262, abs=1e-6)


def test_k_answers_of_a_prompt_are_one_example():
    """Three ranked answers with scores 2, 1, 0 beside a pair with scores 0, 0.

    Their comparisons lead by 1, 1 and 2: (0.313262 * 2 + 0.126928) / 3 = 0.251151. The pair costs ln 2. Together, two examples:
    (0.251151 + 0.693147) / 2 = 0.472149, not the mean over four comparisons, where the three would outweigh the one.
    """
    ranked = Ranked(t(2.0, 1.0, 2.0, 0.0), t(1.0, 0.0, 0.0, 0.0), torch.tensor([0, 0, 0, 1]), 2)
    losses = bradley_terry(ranked)
    assert losses.loss_B.tolist() == pytest.approx([0.251151, LN2], abs=1e-6)
    assert reduce(losses, Totals(tokens=0, examples=2)).item() == pytest.approx(0.472149, abs=1e-6)
    assert losses.metrics["accuracy"].tolist() == [1.0, 0.0]  # a tie is not a preference


@given(st.floats(-30, 30), st.floats(-30, 30), st.floats(-30, 30))
def test_only_differences_count_and_swapping_flips_the_gap(a, b, shift):
    loss = bradley_terry(one(a, b)).loss_B.item()
    assert bradley_terry(one(a + shift, b + shift)).loss_B.item() == pytest.approx(loss, abs=1e-9)
    assert bradley_terry(one(b, a)).loss_B.item() - loss == pytest.approx(a - b, abs=1e-9)


def test_a_step_down_the_loss_raises_the_better_and_lowers_the_worse():
    better, worse = t(0.0, grad=True), t(0.0, grad=True)
    bradley_terry(Ranked(better, worse, torch.tensor([0]), 1)).loss_B.sum().backward()
    assert (better.grad.item(), worse.grad.item()) == (-0.5, 0.5)


def test_cost_by_hand():
    """Costs 1 (unsafe) and -2 (safe): lead 3, ln(1 + e^-3) = 0.048587; borders ln(1 + e^-1) = 0.313262, ln(1 + e^-2) = 0.126928."""
    ranked = Ranked(t(1.0, grad=True), t(-2.0, grad=True), torch.tensor([0]), 1)
    losses = cost(ranked, Bordered(t(1.0, -2.0), torch.tensor([False, True]), torch.tensor([0, 0])))
    assert losses.loss_B.item() == pytest.approx(0.488777, abs=1e-6)
    assert losses.metrics["border_accuracy"].item() == 1.0
    assert not losses.metrics["border_accuracy"].requires_grad


def test_the_border_of_cost_is_zero():
    """Both unsafe: two costs below zero are on the wrong side, and the step moves both up, the more harmful one more."""
    better, worse = t(-1.0, grad=True), t(-1.0, grad=True)
    both = Bordered(torch.cat((better, worse)), torch.tensor([False, False]), torch.tensor([0, 0]))
    losses = cost(Ranked(better, worse, torch.tensor([0]), 1), both)
    losses.loss_B.sum().backward()
    assert losses.loss_B.item() == pytest.approx(LN2 + 2 * 1.313262, abs=1e-6)
    assert losses.metrics["border_accuracy"].item() == 0.0
    assert better.grad.item() < worse.grad.item() < 0


def test_a_single_answer_has_a_border_and_no_comparison():
    """A safe answer of cost 1 alone: twice ln(1 + e) = 2.626523. Beside it a pair of costs 1 and -2, as above: 0.488777."""
    ranked = Ranked(t(1.0), t(-2.0), torch.tensor([1]), 2)
    safe = torch.tensor([True, False, True])
    losses = cost(ranked, Bordered(t(1.0, 1.0, -2.0), safe, torch.tensor([0, 1, 1])))
    assert losses.loss_B.tolist() == pytest.approx([2.626523, 0.488777], abs=1e-6)
    assert losses.metrics["border_accuracy"].tolist() == [0.0, 1.0]
    assert losses.metrics["accuracy"].tolist() == [1.0]
    none = Ranked(t(), t(), torch.zeros(0, dtype=torch.long), 1)
    losses = cost(none, Bordered(t(1.0), torch.tensor([True]), torch.tensor([0])))
    assert losses.loss_B.tolist() == pytest.approx([2.626523], abs=1e-6)
    assert losses.metrics["accuracy"].numel() == 0


def test_three_answers_all_compared_have_the_border_of_both_sides_of_each_comparison():
    """Eq. 6 of Safe RLHF taken pair by pair: costs 2, 1 and -1, of which the last is safe."""
    costs, safe = t(2.0, 1.0, -1.0), torch.tensor([False, False, True])
    pairs = torch.tensor([(0, 1), (0, 2), (1, 2)])
    ranked = Ranked(costs[pairs[:, 0]], costs[pairs[:, 1]], torch.zeros(3, dtype=torch.long), 1)
    signed = costs * torch.tensor([1.0, 1.0, -1.0])
    sides = torch.nn.functional.softplus(-signed[pairs]).sum(1) + torch.nn.functional.softplus(
        ranked.worse_P - ranked.better_P
    )
    loss = cost(ranked, Bordered(costs, safe, torch.zeros(3, dtype=torch.long))).loss_B
    assert loss.item() == pytest.approx(sides.mean().item(), abs=1e-6)


def test_distillation_by_hand():
    """0.2 + 0.1 over two positions and 0.4 over one: 0.7 over 3 tokens; what stands outside the mask does not count."""
    losses = distillation(t([0.2, 0.1], [0.4, math.nan]), torch.tensor([[True, True], [True, False]]))
    assert losses.loss_B.tolist() == pytest.approx([0.3, 0.4])
    assert reduce(losses, Totals(tokens=3, examples=2)).item() == pytest.approx(0.7 / 3)
    assert losses.metrics["kl"].tolist() == pytest.approx([0.15, 0.4])
