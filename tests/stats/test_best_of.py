"""The best of k, by hand and against all choices."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats import best_of, best_of_kl


def test_by_hand():
    """Of 1, 2, 4 the choices of two are (1, 2), (1, 4), (2, 4): best 2, 4, 4, mean 10/3; what watches gives 5 and twice 0: 5/3."""
    assert best_of([1, 4, 2], [1, 4, 2], 2) == pytest.approx(10 / 3)
    assert best_of([1, 4, 2], [9, 0, 5], 2) == pytest.approx(5 / 3)
    assert best_of([1, 4, 2], [9, 0, 5], 1) == pytest.approx(14 / 3)
    assert best_of([1, 4, 2], [9, 0, 5], 3) == 0


def test_equally_good_answers_are_taken_with_equal_chance():
    """Both of the best, 7 and 3, as often: 5."""
    assert best_of([1, 2, 2], [0, 7, 3], 3) == 5
    assert best_of([1, 1], [2, 4], 2) == 3


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=6, unique_by=lambda x: x[0]))
def test_it_is_the_mean_over_all_choices(answers):
    by, valued = zip(*answers, strict=True)
    for k in range(1, len(answers) + 1):
        choices = [max(c, key=lambda i: by[i]) for c in itertools.combinations(range(len(answers)), k)]
        assert best_of(by, valued, k) == pytest.approx(sum(valued[i] for i in choices) / len(choices), abs=1e-9)


def test_there_must_be_as_many_to_choose_from():
    for k in (0, 3):
        with pytest.raises(DataError, match="expected 1 to n"):
            best_of([1, 2], [1, 2], k)


def test_the_divergence_of_the_best_of_k_equally_likely_answers():
    """Of N equally likely answers the best of 2 is the i-th with p = (2i - 1) / N^2: the sum of p log(p N) tends to ln 2 - 1/2."""
    n = 20_000
    p = [(2 * i - 1) / n**2 for i in range(1, n + 1)]
    assert sum(x * math.log(x * n) for x in p) == pytest.approx(best_of_kl(2), abs=1e-4)
    assert best_of_kl(1) == 0
