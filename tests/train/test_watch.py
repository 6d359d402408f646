import math

import pytest

from accord.train.watch import SPAN, Pace, StepLog, Work, note_of, warnings_of


def logs(n=SPAN, loss=0.5, norm=1.0, group="dpo", **metrics):
    return [
        StepLog(i, loss, {"gradient_norm": norm, **{f"{group}/{k}": v for k, v in metrics.items()}}) for i in range(n)
    ]


def test_a_quiet_run_has_no_warning():
    assert warnings_of(logs(100, chosen_reward=0.2, rejected_reward=-0.3, accuracy=0.8)) == {}
    assert warnings_of([]) == {}


def test_nothing_is_compared_in_a_few_steps():
    assert warnings_of(logs(SPAN - 1, chosen_reward=-2.0, rejected_reward=-3.0, accuracy=1.0)) == {}


def falling(group="dpo", to=-0.4, **more):
    return [*logs(chosen_reward=0.0, margin=0.0, group=group), *logs(chosen_reward=to, margin=1.1, group=group, **more)]


def test_chosen_answers_that_become_less_likely_are_told_with_their_numbers():
    """Likelihood displacement: the margin grows, and the chosen answer becomes less likely (Razin et al. 2024)."""
    found = warnings_of(falling())
    assert set(found) == {"displacement"}
    assert "(reward 0.00 over the first 20 steps, -0.40 over the last)" in found["displacement"]
    assert "displacement" not in warnings_of(falling(to=0.4))


def test_a_reward_that_is_always_negative_or_a_score_is_no_fall():
    """SimPO's reward is a log-probability, below 0 from the start; a reward model's score says nothing of likelihood."""
    assert warnings_of(logs(2 * SPAN, chosen_reward=-20.0, margin=0.1, group="simpo")) == {}
    assert warnings_of(falling(group="reward")) == {}


def test_a_fall_within_the_noise_of_other_rows_is_none():
    """Steps alternate between 1 and -1: a deviation of 1, so that the difference of two means of 20 steps has one of 0.32."""
    first = [
        StepLog(i, 0.5, {"gradient_norm": 1.0, "dpo/margin": 0.0, "dpo/chosen_reward": (-1.0) ** i}) for i in range(20)
    ]
    for by, fell in ((0.4, False), (0.8, True)):
        last = [
            StepLog(i, 0.5, {"gradient_norm": 1.0, "dpo/margin": 1.0, "dpo/chosen_reward": (-1.0) ** i - by})
            for i in range(20)
        ]
        assert ("displacement" in warnings_of([*first, *last])) is fell


def test_pairs_that_are_too_easy():
    assert set(warnings_of(logs(accuracy=1.0))) == {"too-easy"}


def test_only_the_last_steps_count():
    assert warnings_of([*logs(accuracy=1.0), *logs(accuracy=0.7)]) == {}


def test_a_jump_of_the_gradient_is_measured_against_the_median():
    """Norms 1, 1, ..., then 10 (ten times the median: not yet) or 11."""
    assert warnings_of([*logs(), StepLog(20, 0.5, {"gradient_norm": 10.0})]) == {}
    found = warnings_of([*logs(), StepLog(20, 0.5, {"gradient_norm": 11.0})])
    assert "norm is 11, and half of the steps before were below 1" in found["gradient-jump"]


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (0.5, math.inf)])
def test_a_step_that_is_not_finite(loss, norm):
    assert "not-finite" in warnings_of([StepLog(0, loss, {"gradient_norm": norm})])


def test_a_loss_that_doubles_diverges():
    """Means of 20 steps: 0.5, then 1.0 (twice: not yet) or 1.1."""
    assert warnings_of([*logs(), *logs(loss=1.0)]) == {}
    assert "risen from 0.500 to 1.100" in warnings_of([*logs(), *logs(loss=1.1)])["diverges"]


def test_a_steps_line():
    pairs = {"dpo/accuracy": 0.75, "dpo/margin": 0.35, "dpo/chosen_reward": 0.1, "dpo/rejected_reward": -0.25}
    log = StepLog(3, 0.61234, {**pairs, "gradient_norm": 2.0})
    assert note_of(log) == "loss 0.612, accuracy 0.75, margin 0.35, chosen 0.1, rejected -0.25, gradient 2"
    assert note_of(StepLog(3, 0.5, {"kto/baseline": 0.25})) == "loss 0.500, baseline 0.25"
    two = {"retain/kl": 0.02, "distillation/kl": 0.5}
    assert note_of(StepLog(3, 0.5, two)) == "loss 0.500, distillation KL 0.5, retain KL 0.02"


def test_pace_by_hand():
    """300 tokens in 2 s are 150 a second; 90 of 100 positions; 4e9 operations in 2 s are 2e9 a second, half of 4e9."""
    work = Work(100, 40, 30, 1e9) + Work(200, 60, 60, 3e9)
    pace = Pace(work, 2.0, 4e9)
    assert pace.measured() == {"tokens_per_s": 150, "useful_positions": 0.9, "share_of_matrix_peak": 0.5}
    assert pace.note() == "150 tokens/s, 90.0% of the computed positions useful, 50% of the matrix peak"


def test_nothing_done_has_no_pace():
    assert Pace(Work(), 1.0, 1.0).measured() == {}
    assert Pace(Work(1, 1, 1, 1.0), 0.0, 1.0).note() == ""
