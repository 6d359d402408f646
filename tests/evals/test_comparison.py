from dataclasses import replace

import pytest

from accord.errors import DataError, NotMeasuredError
from accord.evals.comparison import compare_metric, compare_runs
from accord.evals.results import Evaluation, ItemResult, SuiteResult, estimate


def result(values, suite="s", higher=True, families=None, ids=None, **more):
    items = tuple(
        ItemResult(
            ids[i] if ids else f"i{i}", families[i] if families else f"f{i}", value, "" if value is not None else "cut"
        )
        for i, value in enumerate(values)
    )
    return SuiteResult(suite, "accuracy", higher, items, "all", "here", "CC0", "hash", "key", **more)


def run(*results, fingerprint="a", system=""):
    return Evaluation("m", fingerprint, 0, system, results, {})


BEFORE = [0.0] * 6 + [1.0] + [1.0] * 8 + [0.0] * 5
AFTER = [1.0] * 6 + [0.0] + [1.0] * 8 + [0.0] * 5


def test_a_comparison_by_hand():
    """20 pairs, 6 gained, 1 lost: 9/20 -> 14/20, difference 5/20, McNemar 2 (1 + 7) / 2^7 = 0.125, 42 pairs needed."""
    c = compare_metric(result(BEFORE), result(AFTER))
    assert (c.before.value, c.after.value, c.difference.value) == pytest.approx((9 / 20, 14 / 20, 5 / 20))
    assert (c.rose, c.fell, c.difference.n, c.n_families) == (6, 1, 20, 20)
    assert c.p_mcnemar == pytest.approx(0.125)
    assert c.p_value == pytest.approx(0.125)
    assert c.difference.low < 0.25 < c.difference.high
    assert (c.sought, c.n_needed) == (0.25, 42)
    assert compare_metric(result(BEFORE), result(AFTER), sought=0.05).n_needed > 42


def test_swapping_the_runs_flips_the_difference():
    there, back = compare_metric(result(BEFORE), result(AFTER)), compare_metric(result(AFTER), result(BEFORE))
    assert back.difference.value == -there.difference.value
    assert (back.rose, back.fell) == (there.fell, there.rose)
    assert back.p_value == there.p_value


def test_holm_counts_every_comparison():
    """p = 0.125 and 2 / 2^6 = 0.03125: Holm gives 0.125 and 0.0625, so the smaller one is not shown after all."""
    gained = result([0.0] * 6 + [1.0] * 14, suite="t"), result([1.0] * 20, suite="t")
    both = compare_runs(run(result(BEFORE), gained[0]), run(result(AFTER), gained[1], fingerprint="b"), ("A", "B"))
    assert both.n_comparisons == 2
    assert [c.p_adjusted for c in both.metrics] == pytest.approx([0.125, 0.0625])
    assert both.metrics[1].difference.low > 0
    assert [c.change for c in both.metrics] == ["unclear", "unclear"]
    alone = compare_runs(run(gained[0]), run(gained[1], fingerprint="b"), ("A", "B"))
    assert alone.metrics[0].p_adjusted == pytest.approx(0.03125)
    assert alone.metrics[0].change == "better"


def test_better_and_worse_follow_the_direction():
    harm = compare_runs(run(result([1.0] * 30, higher=False)), run(result([0.0] * 30, higher=False)), ("A", "B"))
    assert harm.metrics[0].change == "better"
    right = compare_runs(run(result([1.0] * 30)), run(result([0.0] * 30)), ("A", "B"))
    assert right.metrics[0].change == "worse"


def test_what_is_no_pair_is_counted_by_why():
    before = result([1.0, 0.0, None, 1.0], ids=["a", "b", "c", "d"])
    after = result([1.0, None, 1.0, 0.0, 1.0], ids=["b", "c", "x", "d", "y"])
    c = compare_metric(before, after)
    assert (c.difference.n, c.difference.n_unscored, c.only_before, c.only_after) == (2, 1, 1, 2)
    assert c.difference.value == 0.0  # b gained, d lost
    assert c.before.value == pytest.approx(2 / 3)


def test_forms_of_one_goal_widen_the_interval_and_the_test():
    families = [f"f{i // 10}" for i in range(40)]
    together = compare_metric(result([0.0] * 40, families=families), result([1.0] * 20 + [0.0] * 20, families=families))
    apart = compare_metric(result([0.0] * 40), result([1.0] * 20 + [0.0] * 20))
    assert together.difference.high - together.difference.low > 1.5 * (apart.difference.high - apart.difference.low)
    assert together.p_value == pytest.approx(0.5)  # two families of ten: 2 of 4 signs
    assert together.p_mcnemar == pytest.approx(2 / 2**20)


def test_graded_values_have_no_mcnemar_and_never_a_zero_width():
    before, after = result([0.25] * 30), result([0.5] * 30)
    c = compare_metric(before, after)
    assert c.difference.value == pytest.approx(0.25)
    assert c.p_mcnemar is None
    assert c.difference.low < 0.25 < c.difference.high
    one = compare_metric(result([0.25]), result([0.5]))
    assert one.difference.low < 0 < one.difference.high


def test_stats_03_a_macro_mean_is_compared_as_a_macro_mean():
    """Group a: 2 items, both gained; group b: 8 items, none. Macro (1 + 0) / 2, micro 2 / 10; the interval is the macro mean's."""

    def grouped(values):
        made = result(values, aggregate="macro")
        items = tuple(replace(item, group="a" if i < 2 else "b") for i, item in enumerate(made.items))
        return replace(made, items=items)

    before, after = grouped([0.0] * 10), grouped([1.0] * 2 + [0.0] * 8)
    c = compare_metric(before, after)
    assert c.difference.value == pytest.approx(0.5)
    assert c.difference.value == pytest.approx(estimate(after).value - estimate(before).value)
    assert "macro" in c.difference.method


def test_one_gain_is_shown_by_no_macro_mean():
    """Of 100 items in two groups one is gained and none lost; a change of -1 is possible, though none occurred."""
    made = [replace(item, group="ab"[i % 2]) for i, item in enumerate(result([0.0] * 100).items)]
    before = replace(result([], aggregate="macro"), items=tuple(made))
    after = replace(before, items=(replace(made[0], value=1.0), *made[1:]))
    c = compare_metric(before, after)
    assert c.difference.value == pytest.approx(0.01)
    assert c.difference.low < 0 < c.difference.high
    same = compare_metric(before, before).difference
    assert same.low == pytest.approx(-same.high)
    assert same.low < 0


def test_runs_that_share_nothing_are_not_measured():
    here = result([1.0, 0.0])
    with pytest.raises(NotMeasuredError, match="no metric"):
        compare_runs(run(here), run(replace(here, suite="t")), ("A", "B"))
    with pytest.raises(NotMeasuredError, match="no item of s/accuracy"):
        compare_runs(run(here), run(result([1.0], ids=["x"])), ("A", "B"))
    with pytest.raises(NotMeasuredError, match="scored in both"):
        compare_runs(run(here), run(result([None, None])), ("A", "B"))
    with pytest.raises(NotMeasuredError):
        compare_runs(run(), run(), ("A", "B"))


def test_one_metric_without_pairs_is_not_measured_beside_the_others():
    c = compare_runs(
        run(result([1.0, 0.0]), result([1.0], suite="t")),
        run(result([1.0, 1.0]), result([1.0], suite="t", ids=["x"]), result([1.0], suite="u")),
        ("A", "B"),
    )
    assert [m.change for m in c.metrics] == ["unclear", "not measured"]
    assert (c.n_comparisons, c.measured_after_only) == (1, ("u/accuracy",))
    assert c.metrics[1].p_adjusted is None
    assert c.metrics[1].n_needed is None


def test_what_would_mislead_is_refused_or_noted():
    with pytest.raises(DataError, match="higher_is_better"):
        compare_metric(result([1.0]), result([1.0], higher=False))
    with pytest.raises(DataError, match="'i' stands twice"):
        compare_metric(result([1.0, 1.0], ids=["i", "i"]), result([1.0]))
    other = replace(result([1.0]), scorer="other")
    assert "different scorers" in compare_metric(result([1.0]), other).notes[0]
    assert "same model" in compare_runs(run(result([1.0])), run(result([1.0])), ("A", "B")).notes[0]
    unknown = run(result([1.0]), fingerprint="")
    assert compare_runs(unknown, unknown, ("A", "B")).notes == ()
