from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from accord.train.batches import steps_of_epoch

SIZES = st.lists(st.integers(1, 5), max_size=40)


def of_sizes(sizes):
    rows = iter(range(sum(sizes)))
    return [[next(rows) for _ in range(n)] for n in sizes]


@given(SIZES, st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_every_row_is_seen_once_a_pass_and_units_stay_whole(sizes, rows_per_step, seed, epoch):
    units = of_sizes(sizes)
    steps = steps_of_epoch(units, rows_per_step, seed, epoch)
    assert sorted(row for step in steps for row in step) == list(range(sum(sizes)))
    assert all(any(set(unit) <= set(step) for step in steps) for unit in units)
    assert steps == steps_of_epoch(units, rows_per_step, seed, epoch)


@given(st.integers(1, 50), st.integers(1, 20))
def test_single_rows_fill_the_steps_evenly(n_rows, rows_per_step):
    sizes = [len(step) for step in steps_of_epoch([[i] for i in range(n_rows)], rows_per_step, 0, 0)]
    assert len(sizes) == -(-n_rows // rows_per_step)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= rows_per_step


def test_pairs_are_spread_over_all_steps():
    # 10 pairs and 12 single rows are 4 steps of 8: 2 or 3 pairs in each, and single rows for the rest.
    units = of_sizes([2] * 10 + [1] * 12)
    steps = steps_of_epoch(units, 8, 0, 0)
    assert Counter(len(step) for step in steps) == {8: 4}
    assert Counter(sum(row < 20 for row in step) for step in steps) == {4: 2, 6: 2}


def test_seed_and_epoch_make_the_order():
    orders = {str(steps_of_epoch(of_sizes([1] * 30), 30, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
