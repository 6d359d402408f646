"""Objectives on pairs. One pair runs through all of them:

chosen -10 over 5 tokens against the reference's -14, rejected -12 over 4 tokens against -13. Log-ratios 4 and 1, difference 3;
a token 0.8 and 0.25, difference 0.55; log-probabilities a token -2 and -3.
"""

import inspect
import math
import pkgutil
from dataclasses import fields
from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import accord.objectives
from accord.errors import AccordError, SettingsError
from accord.objectives.apo_down import apo_down
from accord.objectives.apo_zero import apo_zero
from accord.objectives.cpo import cpo
from accord.objectives.dpo import dpo
from accord.objectives.dpo_norm import dpo_norm
from accord.objectives.dpop import dpop
from accord.objectives.hinge import hinge
from accord.objectives.ipo import ipo
from accord.objectives.orpo import orpo
from accord.objectives.pairs import Pairs
from accord.objectives.robust_dpo import robust_dpo
from accord.objectives.simpo import simpo
from accord.objectives.soft_dpo import soft_dpo
from accord.resolve import options_of, with_options

LN2 = math.log(2)


def objectives():
    """Every module of the folder whose function of its own name takes pairs: a new file is tested on arrival."""
    for info in pkgutil.iter_modules(accord.objectives.__path__):
        function = getattr(import_module(f"accord.objectives.{info.name}"), info.name, None)
        if function and next(iter(inspect.signature(function).parameters)) == "pairs":
            yield function


OBJECTIVES = list(objectives())


def t(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def the_pair(chosen=-10.0, rejected=-12.0, preference=None):
    return Pairs(t(chosen), t(rejected), t(5), t(4), t(-14.0), t(-13.0), None if preference is None else t(preference))


@pytest.mark.parametrize(
    ("loss", "right"),
    [
        (lambda p: dpo(p, beta=0.1), 0.554355),  # ln(1 + e^-0.3)
        (lambda p: soft_dpo(p, beta=0.1, label_error=0.1), 0.584355),  # 0.9 * 0.554355 + 0.1 * 0.854355
        (lambda p: soft_dpo(p, beta=0.1, label_error=0.0), 0.554355),
        (lambda p: robust_dpo(p, beta=0.1, label_error=0.1), 0.516855),  # (0.9 * 0.554355 - 0.1 * 0.854355) / 0.8
        (lambda p: dpo_norm(p, beta=5.0), 0.061968),  # ln(1 + e^-2.75)
        (lambda p: ipo(p, beta=0.1), 19.8025),  # (0.55 - 5)^2; summed over tokens it would be (3 - 5)^2 = 4
        (lambda p: hinge(p, beta=0.1), 0.7),  # 1 - 0.3
        (lambda p: hinge(p, beta=0.5), 0.0),  # 1 - 1.5 < 0
        (lambda p: apo_zero(p, beta=0.1), 0.926291),  # 1 - s(0.4) + s(0.1) = 1 - 0.598688 + 0.524979
        (lambda p: apo_down(p, beta=0.1), 1.024245),  # s(0.4) + 1 - s(0.3) = 0.598688 + 1 - 0.574443
        (lambda p: dpop(p, beta=0.1, penalty=5.0), 0.554355),  # the chosen answer did not fall
        (lambda p: simpo(p, beta=2.0, gamma=1.0), 0.313262),  # 2 * (-2) - 2 * (-3) - 1 = 1; ln(1 + e^-1)
        # 2 for the imitated answer; odds e^-2 / (1 - e^-2) = 0.156518 and 0.052396; 0.1 ln(1 + 0.052396 / 0.156518)
        (lambda p: orpo(p, weight=0.1), 2.028875),
        (lambda p: cpo(p, beta=0.1, weight=1.0), 2.598139),  # ln(1 + e^-0.2) + 2
    ],
)
def test_by_hand(loss, right):
    assert loss(the_pair()).loss_B.item() == pytest.approx(right, abs=1e-6)


def test_dpop_charges_for_a_chosen_answer_that_fell():
    """Chosen -16: log-ratios -2 and 1, difference -3, fall 2; 0.1 * (-3 - 5 * 2) = -1.3; ln(1 + e^1.3) = 1.541008."""
    assert dpop(the_pair(chosen=-16.0), beta=0.1, penalty=5.0).loss_B.item() == pytest.approx(1.541008, abs=1e-6)


def test_a_preference_of_the_pair_goes_before_the_error_rate_of_all():
    """q = 0.7: 0.7 * 0.554355 + 0.3 * 0.854355 = 0.644355. q = 1/2 with no margin is least: both ways cost ln 2."""
    assert soft_dpo(the_pair(preference=0.7), label_error=0.4).loss_B.item() == pytest.approx(0.644355, abs=1e-6)
    margin = t(0.0, grad=True)
    even = Pairs(margin, t(0.0), t(1), t(1), t(0.0), t(0.0), t(0.5))
    losses = soft_dpo(even)
    losses.loss_B.sum().backward()
    assert losses.loss_B.item() == pytest.approx(LN2)
    assert margin.grad.item() == 0


def test_a_pair_without_a_preference_has_the_error_rate_of_all():
    """Two times the same pair, q = 0.7 and, without one, 1 - 0.1 = 0.9: 0.644355 and 0.584355."""
    one, other = the_pair(preference=0.7), the_pair(preference=math.nan)
    both = Pairs(*(torch.cat([getattr(p, f.name) for p in (one, other)]) for f in fields(Pairs)))
    assert soft_dpo(both, label_error=0.1).loss_B.tolist() == pytest.approx([0.644355, 0.584355], abs=1e-6)


@given(st.floats(-20, 20), st.floats(0.0, 0.45))
def test_robust_dpo_is_dpo_in_expectation_over_flipped_labels(delta, error):
    """(1 - e) of the labels are seen as they are, e of them swapped."""
    zero, one = t(0.0), t(1)
    seen = Pairs(t(delta), zero, one, one, zero, zero)
    flipped = Pairs(zero, t(delta), one, one, zero, zero)
    expected = (1 - error) * robust_dpo(seen, 0.1, error).loss_B + error * robust_dpo(flipped, 0.1, error).loss_B
    assert expected.item() == pytest.approx(dpo(seen, 0.1).loss_B.item(), abs=1e-9)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_options_have_bounds_and_their_defaults_lie_within(objective):
    """A negative beta would prefer what was rejected, a beta of 0 nothing."""
    defaults = {name: p.default for name, p in options_of(objective).items()}
    assert with_options(objective, defaults)(the_pair()).loss_B.shape == (1,)
    for name in defaults:
        flag = "--" + name.replace("_", "-")
        for value in (-0.1, math.nan, *([0.0] if name == "beta" else []), *([0.5] if name == "label_error" else [])):
            with pytest.raises(SettingsError, match=f"{flag} is {value}"):
                with_options(objective, {name: value})


def test_all_options_that_cannot_be_are_named_at_once():
    with pytest.raises(
        SettingsError, match=r"--beta is 0\.0: .* greater than 0; there is no --gama; did you mean 'gamma'"
    ):
        with_options(simpo, {"beta": 0.0, "gama": 1.0})


def test_the_folder_holds_the_objectives_that_are_tested_here():
    assert {f.__name__ for f in OBJECTIVES} >= {"dpo", "ipo", "simpo", "orpo", "cpo", "apo_zero", "apo_down", "dpop"}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_says_its_source_its_denominator_and_what_it_needs(objective):
    module = inspect.getmodule(objective)
    assert "denominator" in objective.__doc__
    assert "arXiv" in objective.__doc__ or "note on DPO" in objective.__doc__
    assert set(module.NEEDS) <= {"logps", "ref_logps", "preference"}
    assert module.__doc__


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_needs_no_reference_runs_without_and_what_needs_one_says_so(objective):
    without = Pairs(t(-10.0), t(-12.0), t(5), t(4))
    if "ref_logps" in inspect.getmodule(objective).NEEDS:
        with pytest.raises(AccordError, match="reference"):
            objective(without)
    else:
        assert objective(without).loss_B.shape == (1,)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_step_down_the_loss_widens_the_margin(objective):
    """At equality with the reference; apo_down alone lowers the chosen answer too, by less than the rejected one."""
    chosen, rejected = t(-10.0, grad=True), t(-10.0, grad=True)
    pair = Pairs(chosen, rejected, t(5), t(5), t(-10.0), t(-10.0))
    objective(pair).loss_B.sum().backward()
    assert rejected.grad.item() > 0
    assert chosen.grad.item() - rejected.grad.item() < 0
    assert (chosen.grad.item() < 0) or objective is apo_down


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(st.lists(st.floats(-200, -0.01), min_size=4, max_size=4))
def test_a_pair_is_worth_the_same_alone_and_in_company_and_metrics_carry_no_gradient(objective, logps):
    w, r, ref_w, ref_r = (t(value, -7.0, grad=True) for value in logps)
    n_w, n_r = t(5, 3), t(2, 6)
    both = objective(Pairs(w, r, n_w, n_r, ref_w, ref_r))
    alone = objective(Pairs(w[:1], r[:1], n_w[:1], n_r[:1], ref_w[:1], ref_r[:1]))
    assert both.unit == "example"
    assert both.loss_B[0].item() == alone.loss_B[0].item()
    assert math.isfinite(alone.loss_B[0].item())
    assert {"margin", "accuracy", "chosen_reward", "rejected_reward"} <= set(both.metrics)
    assert not any(value.requires_grad for value in both.metrics.values())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_far_from_the_reference_loss_and_gradient_are_finite(objective):
    w, r = t(-1e4, -1e-9, grad=True), t(-1e-9, -1e4, grad=True)
    losses = objective(Pairs(w, r, t(1, 1), t(1, 1), t(-5.0, -5.0), t(-5.0, -5.0)))
    losses.loss_B.sum().backward()
    assert all(torch.isfinite(x).all() for x in (losses.loss_B, w.grad, r.grad))
