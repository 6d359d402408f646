import json
from dataclasses import asdict

import pytest

from accord.errors import DataError
from accord.stats import cohen_kappa, krippendorff_alpha, raw_agreement


def test_annotation_04_kappa_undefined():
    kappa, raw = cohen_kappa(["safe"] * 5, ["safe"] * 5), raw_agreement(["safe"] * 5, ["safe"] * 5)
    assert (kappa.value, kappa.low, kappa.high, kappa.n) == (None, None, None, 5)
    assert "one label used" in kappa.method
    assert (raw.value, raw.n) == (1.0, 5)
    assert "NaN" not in json.dumps(asdict(kappa))


def test_annotation_04_kappa_by_hand():
    """po = 0.8, pe = 0.2 * 0.2 + 0.8 * 0.8 = 0.68, kappa = 0.12 / 0.32 = 0.375."""
    a = ["unsafe", "unsafe", "safe"] + ["safe"] * 7
    b = ["unsafe", "safe", "unsafe"] + ["safe"] * 7
    kappa = cohen_kappa(a, b)
    assert kappa.value == pytest.approx(0.375)
    assert raw_agreement(a, b).value == 0.8
    assert kappa.low < kappa.value < kappa.high <= 1


def test_annotation_04_no_common_items():
    kappa = cohen_kappa(["safe", None], [None, "safe"])
    assert (kappa.value, kappa.n, kappa.n_unscored) == (None, 0, 2)
    assert "no common items" in kappa.method
    raw = raw_agreement([], [])
    assert (raw.value, raw.n) == (None, 0)


def test_standard_error_by_hand():
    """Cells 20, 5, 10, 15 of 50: po = 0.7, pe = 0.5*0.6 + 0.5*0.4 = 0.5, kappa = 0.4.

    Fleiss, Cohen and Everitt: A = .4 (1 - 1.1*.6)^2 + .3 (1 - .9*.6)^2 = 0.10972,
    B = .36 (.1 (.6 + .5)^2 + .2 (.4 + .5)^2) = 0.10188, C = (.4 - .5*.6)^2 = 0.01;
    se = sqrt((A + B - C) / 50) / (1 - pe) = 0.12698.
    """
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    kappa = cohen_kappa(a, b)
    assert kappa.value == pytest.approx(0.4)
    assert (kappa.high - kappa.low) / 2 == pytest.approx(1.95996 * 0.12698, rel=1e-3)


@pytest.mark.parametrize(("b", "value"), [("uuss", 1.0), ("ssuu", -1.0)])
def test_perfect_agreement_and_disagreement_are_not_certain(b, value):
    kappa = cohen_kappa("uuss", b)
    assert kappa.value == value
    assert kappa.high - kappa.low > 0.5


def test_one_item():
    assert cohen_kappa(["safe"], ["safe"]).value is None
    assert cohen_kappa(["safe"], ["unsafe"]).value == 0
    assert raw_agreement(["safe"], ["safe"]).value == 1


def test_raters_are_interchangeable():
    a, b = list("uusssususs"), list("ussssuuuss")
    assert cohen_kappa(a, b).value == pytest.approx(cohen_kappa(b, a).value)


def test_unequal_lengths_are_refused():
    with pytest.raises(DataError, match="same items"):
        cohen_kappa(["safe"], [])


def test_krippendorff_by_hand():
    """Two raters, ten items, nominal: 0-0 five times, 1-1 three, 0-1 two. 20 values, 12 zeros and 8 ones; observed disagreement
    4 ordered pairs of 20 = 0.2; expected 2 x 12 x 8 / (20 x 19) = 0.50526; alpha = 1 - 0.2 / 0.50526 = 0.60417.
    """
    got = krippendorff_alpha([[0, 0]] * 5 + [[1, 1]] * 3 + [[0, 1]] * 2)
    assert got.value == pytest.approx(0.60417, abs=1e-5)
    assert got.low < got.value < got.high
    assert got.n == 10


def test_krippendorff_scales_gaps_and_undefined():
    rows = [[0, 0.25, None], [0.5, 0.75, 0.75], [1, 1, 1], [0, 0, 0], [0.25, None, None], [1, 0.75, 1]]
    got = krippendorff_alpha(rows, "interval")
    assert got.value > krippendorff_alpha(rows, "nominal").value
    assert (got.n, got.unscored) == (5, {"rated by fewer than two": 1})
    assert krippendorff_alpha(rows, "ordinal").value > 0.8
    assert krippendorff_alpha([[1, 1], [1, 1]]).value is None
    assert "undefined" in krippendorff_alpha([[1, 1], [1, 1]]).method
    assert krippendorff_alpha([]).value is None
    assert krippendorff_alpha([[1], [None, 0]]).n == 0
    perfect = krippendorff_alpha([[0, 0], [1, 1], [0, 0]])
    assert (perfect.value, perfect.low) == (1.0, None)
