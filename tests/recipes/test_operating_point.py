from collections import Counter

import pytest

from accord.recipes.material import read_material
from accord.recipes.operating_point import FALLBACK, N_PROMPTS, RULE, choose_prompts, choose_scale
from accord.recipes.settings import AlignSettings
from accord.report.evidence import CurvePoint
from accord.stats import proportion


def test_the_prompts_are_of_every_hazard():
    """The starter's rows stand by clause: the first 60 harmful ones would be of 9 of the 16 hazards."""
    material = read_material(AlignSettings())
    held_out = [d.prompt for d in material.held_out]
    chosen = choose_prompts(held_out, 0)
    assert {p.clause for p in chosen if p.kind == "harmful"} == {h.id for h in material.policy.hazards}
    have = Counter(p.kind for p in held_out)
    assert Counter(p.kind for p in chosen) == {kind: min(n, have[kind]) for kind, n in N_PROMPTS.items()}
    assert choose_prompts(held_out, 0) == chosen
    assert choose_prompts(held_out, 1) != chosen


def point(scale, harmful, contrast, ordinary, n=100):
    return CurvePoint(scale, *(proportion(round(100 * rate), n) for rate in (harmful, contrast, ordinary)))


def test_of_the_allowed_strengths_the_one_that_refuses_most():
    """At 1.2 too many contrast prompts are refused, at 1.0 too many ordinary ones; of 0.8 and 0.6 the 0.8 refuses more."""
    points = [
        point(0.6, 0.5, 0.1, 0),
        point(0.8, 0.6, 0.15, 0.02),
        point(1.0, 0.7, 0.18, 0.06),
        point(1.2, 0.8, 0.3, 0),
    ]
    assert (choose_scale(points).chosen, choose_scale(points).rule) == (0.8, RULE)


def test_of_equals_the_smallest():
    assert choose_scale([point(1.0, 0.6, 0.1, 0), point(0.8, 0.6, 0.1, 0)]).chosen == 0.8


def test_where_no_strength_is_allowed_the_one_nearest_to_the_limits():
    """Above the limits of 0.18 and 0.05 by 0.12, 0.04 and 0.32; the rule that is reported says so."""
    points = [point(1.0, 0.8, 0.3, 0), point(0.8, 0.4, 0.2, 0.09), point(1.2, 0.9, 0.5, 0)]
    assert (choose_scale(points).chosen, choose_scale(points).rule) == (0.8, FALLBACK)
    assert choose_scale(points[::2]).chosen == 1.0


def test_of_two_as_near_the_one_that_refuses_more_harmful_prompts():
    assert choose_scale([point(0.8, 0.5, 0.2, 0), point(0.9, 0.6, 0.2, 0.05)]).chosen == 0.9


@pytest.mark.parametrize("missing", ["harmful", "contrast"])
def test_without_a_number_the_trained_strength_is_kept(missing):
    nothing = proportion(0, 0, {"empty": 3})
    known = point(1.2, 0.9, 0.1, 0)
    unknown = CurvePoint(
        1.2,
        nothing if missing == "harmful" else known.refused_harmful,
        nothing if missing == "contrast" else known.refused_contrast,
        known.refused_ordinary,
    )
    curve = choose_scale([unknown])
    assert curve.chosen == 1.0
    assert "nothing was assessed" in curve.rule


def test_ordinary_prompts_that_were_not_measured_forbid_nothing():
    known = point(1.2, 0.9, 0.1, 0)
    assert (
        choose_scale([CurvePoint(1.2, known.refused_harmful, known.refused_contrast, proportion(0, 0))]).chosen == 1.2
    )
