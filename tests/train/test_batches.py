import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.models.tree import Tree, micro_batches
from accord.train.batches import steps_of_epoch, useful_share


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_every_row_is_seen_once_a_pass(n_rows, rows_per_step, seed, epoch):
    steps = steps_of_epoch(n_rows, rows_per_step, seed, epoch)
    assert sorted(row for step in steps for row in step) == list(range(n_rows))
    assert all(len(step) == rows_per_step for step in steps[:-1])
    assert steps == steps_of_epoch(n_rows, rows_per_step, seed, epoch)


def test_seed_and_epoch_make_the_order():
    orders = {str(steps_of_epoch(30, 30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_useful_share_by_hand():
    """Lengths 2 and 4 in one batch: 6 of 8 positions; with a batch of its own for the 3: 9 of 11."""
    trees = [Tree(i, (0,) * (n - 1), ((0,),)) for i, n in enumerate([2, 4, 3])]
    assert useful_share(trees, [[0, 1]]) == pytest.approx(6 / 8)
    assert useful_share(trees, [[0, 1], [2]]) == pytest.approx(9 / 11)
    assert useful_share(trees, micro_batches(trees, range(3), 1)) == 1
