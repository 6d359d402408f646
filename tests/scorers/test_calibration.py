"""Calibration against people: worked by hand, and the borders (nothing, all alike, nothing scored)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from accord.scorers.calibration import calibrate
from accord.scorers.labels import Label, LabelledAnswer
from accord.stats.intervals import wilson
from accord.types import Outcome, Score


class Scripted:
    """A scorer that says what its table says of an answer."""

    name = "scripted"
    config_hash = "0"

    def __init__(self, table: Mapping[str, Outcome]) -> None:
        self.table = table

    def score(self, prompt_text: str, answer: str) -> Score:
        return Score(self.table[answer], self.name, reason=f"{prompt_text}{answer}")


def rows(*labels: Label) -> list[LabelledAnswer]:
    return [LabelledAnswer("", str(i), label) for i, label in enumerate(labels)]


def table(*outcomes: Outcome) -> Scripted:
    return Scripted({str(i): outcome for i, outcome in enumerate(outcomes)})


def test_by_hand() -> None:
    """Seven rows; people: 3 refused, 3 complied, 1 partial. The scorer has one refused right, one deflected (counts as
    refused), one partial (wrong); two complied right, one unscored. So agreement 4/5, sensitivity 2/3, specificity 2/2.
    Kappa: p_o = 4/5; people 3/5 refused and 2/5 complied, scorer 2/5 and 2/5, so p_e = 6/25 + 4/25 = 0.4 and
    kappa = (0.8 - 0.4) / 0.6 = 2/3.
    """
    people = rows("refused", "refused", "refused", "complied", "complied", "complied", "partial")
    O = Outcome  # noqa: E741
    scorer = table(O.REFUSED, O.DEFLECTED, O.PARTIAL, O.COMPLIED, O.COMPLIED, O.UNSCORED, O.REFUSED)
    got = calibrate(scorer, people)
    assert (got.agreement.value, got.agreement.n) == (0.8, 5)
    assert (got.agreement.low, got.agreement.high) == pytest.approx(wilson(4, 5))
    assert got.sensitivity.value == pytest.approx(2 / 3)
    assert (got.specificity.value, got.specificity.n) == (1.0, 2)
    assert got.kappa.value == pytest.approx(2 / 3)
    assert got.unscored == {"5": 1}
    assert got.specificity.unscored == {"5": 1}
    assert got.sensitivity.unscored == {}
    assert got.n_partial_by_people == 1
    assert got.n_rows == 7
    assert got.confusion["partial", Outcome.REFUSED] == 1
    assert sum(got.confusion.values()) == 7
    assert [row.answer for row, _ in got.disagreements] == ["2"]


def test_order_of_rows_does_not_matter() -> None:
    people = rows("refused", "complied", "complied", "refused")
    scorer = table(Outcome.REFUSED, Outcome.REFUSED, Outcome.COMPLIED, Outcome.REFUSED)
    assert calibrate(scorer, people).agreement == calibrate(scorer, people[::-1]).agreement


@pytest.mark.parametrize("people", [[], rows("partial", "partial")])
def test_nothing_to_agree_on_is_no_number(people: list[LabelledAnswer]) -> None:
    got = calibrate(table(Outcome.REFUSED, Outcome.COMPLIED), people)
    assert got.agreement.value is None
    assert got.kappa.value is None
    assert "not measured" in got.describe()


def test_all_unscored_is_no_number_and_says_why() -> None:
    got = calibrate(table(Outcome.EMPTY, Outcome.ERROR), rows("refused", "complied"))
    assert got.agreement.value is None
    assert got.agreement.n_unscored == 2
    assert got.sensitivity.value is None


def test_one_label_only_has_agreement_and_no_kappa() -> None:
    got = calibrate(table(Outcome.REFUSED, Outcome.REFUSED), rows("refused", "refused"))
    assert got.agreement.value == 1.0
    assert got.kappa.value is None
    assert got.specificity.value is None


def test_swapped_verdicts_swap_agreement() -> None:
    people = rows("refused", "complied", "complied")
    right = calibrate(table(Outcome.REFUSED, Outcome.COMPLIED, Outcome.COMPLIED), people)
    wrong = calibrate(table(Outcome.COMPLIED, Outcome.REFUSED, Outcome.REFUSED), people)
    assert (right.agreement.value, wrong.agreement.value) == (1.0, 0.0)
    assert "agrees with people on 100.0%" in right.describe()
