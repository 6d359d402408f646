import math

import pytest

from accord.train.watch import SPAN, StepLog, note_of, warnings_of


def logs(n=SPAN, loss=0.5, norm=1.0, **metrics):
    return [StepLog(i, loss, {"gradient_norm": norm, **{f"dpo/{k}": v for k, v in metrics.items()}}) for i in range(n)]


def test_a_quiet_run_has_no_warning():
    assert warnings_of(logs(100, chosen_reward=0.2, rejected_reward=-0.3, accuracy=0.8)) == {}


def test_nothing_is_said_of_a_few_steps():
    assert warnings_of(logs(SPAN - 1, chosen_reward=-2.0, rejected_reward=-3.0, accuracy=1.0)) == {}


def test_both_answers_falling_is_told_with_its_numbers():
    """Likelihood displacement: the margin grows, and the chosen answer becomes less likely (Razin et al. 2024)."""
    found = warnings_of(logs(chosen_reward=-0.4, rejected_reward=-1.5, accuracy=0.9))
    assert set(found) == {"displacement"}
    assert "falls too (reward -0.40 over 20 steps, rejected -1.50)" in found["displacement"]


@pytest.mark.parametrize(("chosen", "rejected"), [(0.1, -1.0), (-1.0, -0.5)])
def test_a_rising_chosen_answer_or_a_wrong_order_is_something_else(chosen, rejected):
    assert "displacement" not in warnings_of(logs(chosen_reward=chosen, rejected_reward=rejected))


def test_pairs_that_are_too_easy():
    assert set(warnings_of(logs(accuracy=1.0))) == {"too-easy"}


def test_only_the_last_steps_count():
    assert warnings_of([*logs(accuracy=1.0), *logs(accuracy=0.7)]) == {}


def test_a_jump_of_the_gradient_is_measured_against_the_median():
    """Norms 1, 1, ..., then 10 (ten times the median: not yet) or 11."""
    assert warnings_of([*logs(), StepLog(20, 0.5, {"gradient_norm": 10.0})]) == {}
    found = warnings_of([*logs(), StepLog(20, 0.5, {"gradient_norm": 11.0})])
    assert "norm is 11, and half of the steps so far were below 1" in found["gradient-jump"]


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (0.5, math.inf)])
def test_a_step_that_is_not_finite(loss, norm):
    assert "not-finite" in warnings_of([*logs(), StepLog(20, loss, {"gradient_norm": norm})])


def test_a_loss_that_doubles_diverges():
    """Means of 20 steps: 0.5, then 1.0 (twice: not yet) or 1.1."""
    assert warnings_of([*logs(), *logs(loss=1.0)]) == {}
    assert "risen from 0.500 to 1.100" in warnings_of([*logs(), *logs(loss=1.1)])["diverges"]


def test_a_steps_line():
    log = StepLog(
        3, 0.61234, {"dpo/accuracy": 0.75, "dpo/chosen_reward": 0.1, "dpo/rejected_reward": -0.25, "gradient_norm": 2.0}
    )
    assert note_of(log) == "loss 0.612, accuracy 0.75, chosen 0.1, rejected -0.25"
