import math

import pytest

from accord.errors import DataError
from accord.evals.results import (
    Evaluation,
    ItemResult,
    SuiteResult,
    error_share,
    estimate,
    grouped,
    over_all,
    read_results,
    value_of_label,
    within,
    write_results,
)


def result(values, low=0.0, high=1.0, higher_is_better=True, families=None, **more):
    items = []
    for i, value in enumerate(values):
        reason, error = ("", False) if value is None or not isinstance(value, str) else (value, value == "timed out")
        number = None if isinstance(value, str) else value
        items.append(ItemResult(f"i{i}", families[i] if families else f"f{i}", number, reason, error=error))
    return SuiteResult(
        "s", "accuracy", higher_is_better, within(items, low, high), "all", "here", "CC0", low=low, high=high, **more
    )


def test_eval_01_errors_stay_in_sight_and_both_accuracies_are_given():
    """5 right, 1 wrong, 4 errors: 5/6 of what was scored, 5/10 of all; 40 % errors."""
    found = result([1.0] * 5 + [0.0] + ["timed out"] * 4)
    e = estimate(found)
    assert e.value == pytest.approx(5 / 6)
    assert (e.n, e.unscored) == (6, {"timed out": 4})
    assert over_all(found) == pytest.approx(0.5)
    assert error_share([found]) == pytest.approx(0.4)


def test_eval_01_what_cannot_be_scored_counts_against_a_model_whichever_way_is_better():
    """Of a rate of harm 1 of 2 is scored; were both errors harm it would be 3 of 4."""
    assert over_all(result([1.0, 0.0, "timed out", "timed out"], higher_is_better=False)) == pytest.approx(0.75)


def test_eval_01_a_score_outside_its_scale_is_rejected_by_name():
    """[1, 0, 10, 1]: 2 of 3, never 12 / 4."""
    e = estimate(result([1.0, 0.0, 10.0, 1.0]))
    assert e.value == pytest.approx(2 / 3)
    assert (e.n, e.unscored) == (3, {"score 10 is outside [0, 1]": 1})
    assert estimate(result([math.nan, 1.0])).unscored == {"score nan is outside [0, 1]": 1}


def test_eval_01_labels_have_one_mapping_for_every_metric():
    """C, I, C, P: (1 + 0 + 1 + 1/2) / 4 = 0.625."""
    e = estimate(result([value_of_label(label) for label in "CICP"]))
    assert e.value == pytest.approx(0.625)
    assert e.low < 0.625 < e.high
    assert value_of_label("N") is None
    with pytest.raises(DataError, match="'X' is no label"):
        value_of_label("X")


def test_stats_03_a_macro_mean_carries_its_own_error():
    """A: 5 of 10, B: 900 of 1000. Macro 0.70 with 0.5 sqrt(0.16667^2 + 0.00949^2) = 0.0835; micro 905/1010."""
    items = [ItemResult(f"a{i}", f"a{i}", float(i < 5), group="A") for i in range(10)]
    items += [ItemResult(f"b{i}", f"b{i}", float(i < 900), group="B") for i in range(1000)]
    found = SuiteResult("s", "accuracy", True, tuple(items), "all", "here", "CC0", aggregate="macro")
    assert estimate(found).value == pytest.approx(0.70)
    assert "macro" in estimate(found).method
    assert grouped(found).stderr == pytest.approx(0.0835, abs=1e-4)
    assert grouped(found).n_by_group == {"A": 10, "B": 1000}
    micro = SuiteResult("s", "accuracy", True, tuple(items), "all", "here", "CC0")
    assert estimate(micro).value == pytest.approx(905 / 1010)


@pytest.mark.parametrize("values", [[0.0] * 40, [1.0] * 40, [0.5] * 40, [0.25], [1.0]])
def test_stats_01_no_interval_is_of_zero_width(values):
    e = estimate(result(values))
    assert e.low < e.high
    assert e.low <= e.value <= e.high


def test_stats_01_nothing_scored_is_not_measured():
    e = estimate(result(["timed out"] * 3))
    assert (e.value, e.low, e.high, e.n, e.n_unscored) == (None, None, None, 0, 3)
    assert estimate(result([])).value is None
    assert over_all(result([])) is None
    assert over_all(result(["timed out"] * 3)) is None
    assert error_share([]) is None


def test_a_signed_score_without_spread_has_an_interval_within_its_scale():
    e = estimate(result([0.0] * 30, low=-1.0))
    assert e.value == 0
    assert -1 < e.low < 0 < e.high < 1


def test_forms_of_one_family_are_not_so_many_observations():
    alone = estimate(result([0.5, 1.0, 0.0] * 20))
    dressed = estimate(result([0.5, 1.0, 0.0] * 20, families=[f"f{i % 3}" for i in range(60)]))
    assert dressed.high - dressed.low > alone.high - alone.low


def test_results_are_read_back_as_they_were_written(tmp_path):
    found = Evaluation("m", "f", 3, "", (result([1.0, 0.0, "timed out"]), result([0.5], low=-1.0)), {"x": "no file"})
    write_results(tmp_path, found)
    assert read_results(tmp_path) == found
    with pytest.raises(DataError, match=r"no results\.json"):
        read_results(tmp_path / "missing")
    (tmp_path / "results.json").write_text('{"results": [{"suite": 1}]}')
    with pytest.raises(DataError, match="not the results of an `accord eval`"):
        read_results(tmp_path)
