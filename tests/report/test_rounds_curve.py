"""The curve over rounds and the sentence about each."""

import base64
from dataclasses import replace

from accord.evals.proof import Item, prove
from accord.report.evidence import RoundEvidence
from accord.report.rounds import FRESH, curve, proved

ITEMS = [Item(f"{g}{i}", g, f"{i}") for g in (FRESH, "fresh contrast, attacked") for i in range(40)]


def hits(fresh, contrast=2):
    counts = {FRESH: fresh, "fresh contrast, attacked": contrast}
    return {f"{g}{i}": i < n for g, n in counts.items() for i in range(40)}


def round_of(number, before, control, after):
    return RoundEvidence(
        number, 500, 120, 30, 100, 4, prove(ITEMS, hits(before), hits(control), hits(after)), (1, 1), ""
    )


def test_the_sentence_says_whether_it_fell_by_a_third_more_than_in_the_control():
    clear, none, open_ = (proved(round_of(2, *n).proofs) for n in ((30, 29, 5), (30, 10, 29), (30, 26, 24)))
    assert "75.0% before, 12.5% after" in clear
    assert clear.endswith("It fell by at least a third more than in the control.")
    assert none.endswith("It did not fall by a third more than in the control.")
    assert "is not shown" in open_
    assert proved(()) == "What attacks reach on fresh families was not measured."


def test_the_curve_starts_with_the_model_that_the_first_later_round_began_with():
    picture = curve([round_of(2, 30, 28, 15), round_of(3, 15, 14, 6)])
    assert "75.0% after round 1, 37.5% after round 2, 15.0% after round 3" in picture.alt
    svg = base64.b64decode(picture.wide.split(",")[1]).decode()
    assert "fresh families, attacked" in svg
    assert curve([]) is None
    assert curve([replace(round_of(2, 1, 1, 1), proofs=())]) is None
