"""The paired test of a round, on cases worked by hand."""

import pytest

from accord.evals.proof import Item, prove

ITEMS = [Item(f"g{i}", "fresh", f"family {i}") for i in range(12)]


def hits(*which):
    return {f"g{i}": i in which for i in range(12)}


def test_only_the_gain_beyond_the_control_is_credited():
    """Of 12 goals 9 were got before, 6 after the control (a fall of 3/12), 3 after the findings (6/12).

    beyond = 6/12 - 4/3 * 3/12 = 2/12.
    """
    (proof,) = prove(ITEMS, hits(*range(9)), hits(*range(6)), hits(*range(3)))
    assert proof.before_to_after.difference.value == pytest.approx(-6 / 12)
    assert proof.before_to_control.difference.value == pytest.approx(-3 / 12)
    assert proof.control_to_after.difference.value == pytest.approx(-3 / 12)
    assert proof.beyond.value == pytest.approx(2 / 12)
    assert proof.beyond.low < proof.beyond.value < proof.beyond.high
    assert proof.control_to_after.p_value == pytest.approx(0.25)  # 3 lost, 0 gained: 2 * (1/2)^3


def test_p_values_are_those_of_as_many_tests_as_there_are_groups():
    """Two groups with p = 0.25 each: Holm doubles the smaller, and the larger is at least that."""
    twice = [*ITEMS, *(Item(f"c{i}", "contrast", f"family {i}") for i in range(12))]
    arms = [hits(*range(n)) | {f"c{i}": i < m for i in range(12)} for n, m in ((9, 2), (6, 2), (3, 5))]
    fresh, contrast = prove(twice, *arms)
    assert fresh.p_adjusted == pytest.approx(0.5)
    assert contrast.p_adjusted == pytest.approx(0.5)
    assert contrast.control_to_after.difference.value == pytest.approx(3 / 12)


def test_one_goal_under_several_attacks_is_one_family_to_the_test():
    """Twelve items of three families, all got by the control, none after: 2 / 2^3, where independent ones give 2 / 2^12."""
    items = [Item(f"g{i}", "fresh", f"family {i // 4}") for i in range(12)]
    (proof,) = prove(items, hits(*range(12)), hits(*range(12)), hits())
    assert proof.p_adjusted == pytest.approx(0.25)
    assert proof.control_to_after.p_value == pytest.approx(2 / 2**12)


def test_what_one_model_was_not_assessed_on_is_left_out_of_that_comparison_and_counted():
    after = hits(*range(3)) | {"g11": None}
    del after["g10"]
    (proof,) = prove(ITEMS, hits(*range(9)), hits(*range(6)), after)
    assert (proof.before_to_after.n, proof.before_to_control.n) == (10, 12)
    assert proof.beyond.n == 10
    assert proof.beyond.n_unscored == 2


def test_nothing_assessed_is_not_measured():
    (proof,) = prove(ITEMS, {}, {}, {})
    assert proof.beyond.value is None
    assert proof.before_to_after.difference.value is None
    assert proof.p_adjusted is None
