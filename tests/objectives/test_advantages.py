"""Advantages, by hand and by what must hold of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.objectives.advantages import grpo_advantages, reinforce_plus_plus_advantages, rloo_advantages
from accord.objectives.gae import gae, whitened

ALL = [
    grpo_advantages,
    rloo_advantages,
    reinforce_plus_plus_advantages,
    lambda r, g: grpo_advantages(r, g, scaled=False),
]
HARD_AND_EASY = torch.tensor([0.0, 0, 0, 1, 10, 10, 10, 11]), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_train_06_grpo_group_not_batch():
    """Means 0.25 and 10.25, the sample's deviation 0.5: both groups have the same advantages, scaled or not."""
    scaled = grpo_advantages(*HARD_AND_EASY).values_S
    assert scaled.tolist() == pytest.approx([-0.5, -0.5, -0.5, 1.5] * 2, abs=1e-6)
    assert grpo_advantages(*HARD_AND_EASY, scaled=False).values_S.tolist() == [-0.25, -0.25, -0.25, 0.75] * 2


def test_rloo_by_hand():
    """Of 0, 0, 0, 1: a 0 is held against 1/3, the 1 against 0."""
    assert rloo_advantages(t(0, 0, 0, 1), torch.zeros(4)).values_S.tolist() == pytest.approx([-1 / 3] * 3 + [1])


def test_reinforce_plus_plus_by_hand():
    """With baseline: differences -1, 1, -3, 3 have the deviation sqrt(20 / 3). Without: 0, 2, 4, 10 about 4, sqrt(56 / 3)."""
    rewards, groups = t(0, 2, 4, 10), torch.tensor([0, 0, 1, 1])
    s = (20 / 3) ** 0.5
    assert reinforce_plus_plus_advantages(rewards, groups).values_S.tolist() == pytest.approx(
        [-1 / s, 1 / s, -3 / s, 3 / s]
    )
    s = (56 / 3) ** 0.5
    plain = reinforce_plus_plus_advantages(rewards, groups, baseline=False)
    assert plain.values_S.tolist() == pytest.approx([-4 / s, -2 / s, 0, 6 / s])


@pytest.mark.parametrize("advantages", ALL)
@given(reward=st.floats(-1e3, 1e3, width=32), n=st.integers(1, 9))
def test_a_group_without_spread_gives_exactly_zero_and_is_counted(advantages, reward, n):
    rewards = torch.tensor([reward] * n + [0.1, 0.9])
    result = advantages(rewards, torch.tensor([7] * n + [3, 3]))
    assert result.values_S[:n].tolist() == [0.0] * n
    assert (result.n_groups, result.n_flat) == (2, 1)
    assert result.values_S[-1] > 0 > result.values_S[-2]


@pytest.mark.parametrize("advantages", ALL)
def test_where_all_rewards_are_the_same_all_is_zero(advantages):
    result = advantages(torch.full((6,), 0.1), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert result.values_S.tolist() == [0.0] * 6
    assert (result.n_groups, result.n_flat) == (3, 3)


def test_the_global_form_is_zero_only_where_the_whole_batch_is_the_same():
    rewards, groups = t(1, 1, 2, 2), torch.tensor([0, 0, 1, 1])
    result = reinforce_plus_plus_advantages(rewards, groups, baseline=False)
    assert result.n_flat == 2
    assert (result.values_S != 0).all()
    same = reinforce_plus_plus_advantages(t(2, 2), torch.tensor([0, 1]), baseline=False)
    assert same.values_S.tolist() == [0, 0]


@pytest.mark.parametrize("advantages", ALL)
@given(
    rewards=st.lists(st.floats(-5, 5, width=32), min_size=6, max_size=6),
    order=st.permutations(range(6)),
    shift=st.floats(-3, 3),
)
def test_order_does_not_matter_nor_a_constant_added_to_one_group(advantages, rewards, order, shift):
    rewards, groups = torch.tensor(rewards, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 1])
    if rewards[:3].std() < 1e-3 or rewards[3:].std() < 1e-3:
        return
    plain = advantages(rewards, groups).values_S
    assert torch.allclose(advantages(rewards[order], groups[order]).values_S, plain[order], atol=1e-9)
    shifted = advantages(rewards + shift * (groups == 1), groups).values_S
    assert torch.allclose(shifted, plain, atol=1e-6)


@pytest.mark.parametrize("advantages", ALL)
def test_no_reward_is_no_number(advantages):
    with pytest.raises(AccordError, match="answer 1 is nan"):
        advantages(t(1, float("nan")), torch.tensor([0, 0]))
    with pytest.raises(AccordError, match="one each"):
        advantages(t(1, 2), torch.tensor([0]))
    with pytest.raises(AccordError, match="one each"):
        advantages(t(), torch.tensor([]))


def test_gae_by_hand():
    """gamma 1/2, lambda 1/2; rewards 1, 2, values 3, 4. delta_2 = 2 - 4 = -2; delta_1 = 1 + 4/2 - 3 = 0; A_1 = 0 + (-2)/4."""
    mask = torch.tensor([[True, True, False]])
    result = gae(t([1, 2, 9]), t([3, 4, float("nan")]), mask, discount=0.5, decay=0.5)
    assert result.advantages_BT.tolist() == [[-0.5, -2, 0]]
    assert result.returns_BT.tolist() == [[2.5, 2, 0]]


def test_gae_with_all_of_the_future_is_what_is_still_to_come():
    """lambda 1, gamma 1: rewards 0, 0, 5, values 1, 2, 3: 5 - 1, 5 - 2, 5 - 3; with lambda 0 each step's surprise alone."""
    mask = torch.ones(1, 3, dtype=torch.bool)
    rewards, values = t([0, 0, 5]), t([1, 2, 3])
    assert gae(rewards, values, mask, decay=1.0).advantages_BT.tolist() == [[4, 3, 2]]
    assert gae(rewards, values, mask, decay=0.0).advantages_BT.tolist() == [[1, 1, 2]]


def test_a_short_answer_is_worth_the_same_beside_a_long_one():
    rewards, values = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    both = gae(rewards, values, mask)
    alone = gae(rewards[:1, :2], values[:1, :2], mask[:1, :2])
    assert torch.equal(both.advantages_BT[:1, :2], alone.advantages_BT)


def test_whitened_by_hand():
    """Of 1, 3, 5 (mean 3, deviation 2): -1, 0, 1; what is masked is 0, and so is what has no spread."""
    mask = torch.tensor([[True, True], [True, False]])
    assert whitened(torch.stack([t(1, 3), t(5, float("nan"))]), mask).tolist() == [[-1, 0], [1, 0]]
    assert whitened(torch.ones(2, 2), mask).tolist() == [[0, 0], [0, 0]]
