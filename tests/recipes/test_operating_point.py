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


def test_the_strength_where_the_line_meets_the_limit():
    """Contrast 10 and 26 of 100 at 0.9 and 1.1: with half counts logits -2.1577 and -1.0308, so 18 % (-1.5163) is met at 1.0138.

    The largest hundredth below is 1.01; harmful refusal rises, so the largest allowed strength refuses most.
    """
    curve = choose_scale([point(0.9, 0.5, 0.1, 0), point(1.1, 0.8, 0.26, 0)])
    assert (curve.chosen, curve.rule) == (1.01, RULE)


def test_ordinary_prompts_can_be_what_decides():
    """0 and 20 of 100, half counts 0.5 and 20.5 of 101: logits -5.3033 and -1.3677; 5 % (-2.9444) is met at 1.0199."""
    assert choose_scale([point(0.9, 0.5, 0.02, 0), point(1.1, 0.8, 0.04, 0.2)]).chosen == 1.01


def test_within_the_limits_everywhere_the_strongest_or_of_equals_the_smallest():
    assert choose_scale([point(0.8, 0.5, 0.1, 0), point(1.0, 0.6, 0.1, 0)]).chosen == 1.0
    assert choose_scale([point(0.8, 0.6, 0.1, 0), point(1.0, 0.6, 0.1, 0)]).chosen in (0.8, 1.0)


def test_one_unlucky_point_does_not_decide():
    """21 % at 1.0 amid points that rise from 10 to 18: alone it would forbid 1.0 and all above it."""
    points = [point(s, s - 0.3, c, 0) for s, c in ((0.8, 0.1), (0.9, 0.12), (1.0, 0.21), (1.1, 0.16), (1.2, 0.18))]
    assert choose_scale(points).chosen > 1.0


def test_where_no_strength_is_allowed_the_one_nearest_to_the_limits():
    curve = choose_scale([point(1.0, 0.8, 0.3, 0), point(0.8, 0.4, 0.25, 0), point(1.2, 0.9, 0.5, 0)])
    assert (curve.chosen, curve.rule) == (0.8, FALLBACK)


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
    curve = choose_scale([unknown, point(1.0, 0.8, 0.1, 0)])
    assert curve.chosen == 1.0
    assert "too little was assessed" in curve.rule


def test_ordinary_prompts_that_were_not_measured_forbid_nothing():
    rows = [point(1.0, 0.8, 0.1, 0), point(1.2, 0.9, 0.1, 0)]
    unmeasured = [CurvePoint(p.scale, p.refused_harmful, p.refused_contrast, proportion(0, 0)) for p in rows]
    assert choose_scale(unmeasured).chosen == 1.2
