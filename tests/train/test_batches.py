from hypothesis import given
from hypothesis import strategies as st

from accord.train.batches import steps_of_epoch


@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_every_row_is_seen_once_a_pass(n_rows, rows_per_step, seed, epoch):
    steps = steps_of_epoch(n_rows, rows_per_step, seed, epoch)
    assert sorted(row for step in steps for row in step) == list(range(n_rows))
    assert all(len(step) == rows_per_step for step in steps[:-1])
    assert steps == steps_of_epoch(n_rows, rows_per_step, seed, epoch)


def test_seed_and_epoch_make_the_order():
    orders = {str(steps_of_epoch(30, 30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
