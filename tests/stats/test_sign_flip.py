import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.errors import DataError
from accord.stats.paired import mcnemar_exact
from accord.stats.sign_flip import sign_flip_p


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_with_one_item_a_family_it_is_mcnemars_exact_test(lost, gained, equal):
    changes = [-1.0] * lost + [1.0] * gained + [0.0] * equal
    p = sign_flip_p(changes, [str(i) for i in range(len(changes))])
    assert p == (None if not changes else pytest.approx(mcnemar_exact(lost, gained)))


def test_forms_of_one_goal_are_not_independent():
    """Families with sums 3 and 1: |±3 ± 1| >= 4 for 2 of 4 signs, so p = 1/2; four independent pairs would give 2/16."""
    assert sign_flip_p([1, 1, 1, 1], ["a", "a", "a", "b"]) == pytest.approx(0.5)
    assert sign_flip_p([1, 1, 1, 1], list("abcd")) == pytest.approx(0.125)


def test_graded_changes_are_sampled_and_never_certain():
    """Five sums of 0.3 all one way: 2 of 32 sign patterns reach as far."""
    changes, families = [0.3] * 5, list("abcde")
    assert sign_flip_p(changes, families) == pytest.approx(2 / 32, abs=0.01)
    assert sign_flip_p(changes, families) == sign_flip_p([-c for c in changes], families)
    assert 0 < sign_flip_p([0.3] * 60, [str(i) for i in range(60)]) < 0.001


def test_the_borders():
    assert sign_flip_p([], []) is None
    assert sign_flip_p([0.0, 0.0], ["a", "b"]) == 1.0
    assert sign_flip_p([1.0], ["a"]) == 1.0
    assert sign_flip_p([1.0, -1.0], ["a", "a"]) == 1.0
    with pytest.raises(DataError):
        sign_flip_p([1.0], [])
    with pytest.raises(DataError):
        sign_flip_p([float("nan")], ["a"])
