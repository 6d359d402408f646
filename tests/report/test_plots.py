import base64
import xml.etree.ElementTree as ElementTree

from accord.report import plots
from accord.report.evidence import CurvePoint, TrainingStage
from accord.report.plots import Span, Spot
from accord.stats import clustered_proportion
from accord.types import Estimate

NONE = Estimate(None, None, None, 0, "not measured")


def rate(hits, n):
    return clustered_proportion([i < hits for i in range(n)], [str(i) for i in range(n)])


def texts(uri):
    root = ElementTree.fromstring(base64.b64decode(uri.partition(",")[2]))
    return " ".join(element.text for element in root.iter("{http://www.w3.org/2000/svg}text") if element.text)


def test_nothing_measured_is_no_picture():
    assert plots.trade_off([Spot("base", NONE, rate(1, 2))], "aligned") is None
    assert plots.dumbbells([Span("fraud", NONE, NONE)]) is None
    assert plots.dumbbells([]) is None
    assert plots.losses([TrainingStage("SFT", "x", 1, 1.0)]) is None


def test_trade_off_shows_every_measured_condition_and_the_chosen_strength():
    spots = [Spot("base", rate(1, 50), rate(10, 50)), Spot("aligned", rate(4, 50), rate(45, 50)), Spot("x", NONE, NONE)]
    curve = [
        CurvePoint(0.5, rate(20, 50), rate(1, 50), rate(0, 50)),
        CurvePoint(1.0, rate(45, 50), rate(4, 50), NONE),
        CurvePoint(2, NONE, NONE, NONE),
    ]
    picture = plots.trade_off(spots, "aligned", curve, 1.0)
    for uri in (picture.wide, picture.narrow):
        assert uri.startswith("data:image/svg+xml;base64,")
        seen = texts(uri)
        for word in ("base", "aligned", "chosen", "×0.5", "×1", "Contrast prompts refused"):
            assert word in seen
        assert "×2" not in seen
    assert "base: 20.0% of harmful requests and 2.0% of contrast prompts refused." in picture.alt
    assert "x:" not in picture.alt


def test_one_condition_and_an_estimate_without_interval_can_be_drawn():
    alone = Estimate(0.5, None, None, 1, "no interval")
    assert plots.trade_off([Spot("base", alone, alone)], "aligned") is not None


def test_dumbbells_say_what_was_not_measured():
    picture = plots.dumbbells(
        [Span("Weapons", NONE, NONE), Span("Fraud", rate(8, 10), rate(1, 10)), Span("Hate", NONE, rate(1, 3))]
    )
    for uri in (picture.wide, picture.narrow):
        for word in ("Weapons", "Fraud", "not measured", "before", "after"):
            assert word in texts(uri)
    assert "Fraud: 80.0% before, 10.0% after." in picture.alt
    assert "Hate: not measured before" in picture.alt


def test_losses_draw_one_curve_a_stage_even_of_one_step():
    stages = [TrainingStage("SFT", "x", 1, 1.0, ((1, 2.5), (2, 2.0))), TrainingStage("DPO", "y", 1, 1.0, ((1, 0.69),))]
    picture = plots.losses(stages)
    assert "SFT" in texts(picture.wide)
    assert "DPO" in texts(picture.narrow)
    assert picture.alt == "Training loss. SFT: 2.5 at step 1, 2 at step 2. DPO: 0.69 at step 1, 0.69 at step 1."
    assert plots.losses(stages) == picture


def test_hostile_names_stay_text():
    for name in ("<script>x</script> $\\frac$", "_hidden", "日本", "a\x00b"):
        picture = plots.trade_off([Spot(name, rate(1, 2), rate(1, 2))], name)
        assert name.replace("\x00", "␀") in texts(picture.wide)
