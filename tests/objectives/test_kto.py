import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import AccordError
from accord.objectives.kto import kl_baseline, kto, mismatched


def t(*values, grad=False):
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def test_by_hand():
    """A good answer with log-ratio 4 and a bad one with 1, level 2, beta 0.1.

    1 - s(0.1 * (4 - 2)) = 1 - s(0.2) = 0.450166; 1 - s(0.1 * (2 - 1)) = 1 - s(0.1) = 0.475021; the bad one weighs 1.5: 0.712531.
    """
    losses = kto(t(-10.0, -12.0), t(-14.0, -13.0), torch.tensor([True, False]), t(2.0), 0.1, undesirable_weight=1.5)
    assert losses.loss_B.tolist() == pytest.approx([0.450166, 0.712531], abs=1e-6)
    assert losses.metrics["desirable_reward"].tolist() == pytest.approx([0.4])
    assert losses.metrics["undesirable_reward"].tolist() == pytest.approx([0.1])


def test_the_level_is_the_mean_log_ratio_never_below_zero_and_carries_no_gradient():
    """(4 + 1 - 2) / 3 = 1; (-4 - 1) / 2 is below zero."""
    logps = t(-1.0, -2.0, -5.0, grad=True)
    level = kl_baseline(logps, t(-5.0, -3.0, -3.0))
    assert level.item() == 1.0
    assert not level.requires_grad
    assert kl_baseline(t(-5.0, -3.0), t(-1.0, -2.0)).item() == 0.0


def test_a_step_down_the_loss_raises_the_good_and_lowers_the_bad():
    """At the level the slope is beta / 4 = 0.025 for each."""
    logps = t(-3.0, -3.0, grad=True)
    kto(logps, t(-3.0, -3.0), torch.tensor([True, False]), t(0.0), beta=0.1).loss_B.sum().backward()
    assert logps.grad.tolist() == pytest.approx([-0.025, 0.025])


def test_train_13_kto_odd_batch_mismatch():
    """train-13-kto-odd-batch-mismatch. 3 rows, a last step of 5: no row gets its own answer (a reversal gives the middle one its
    own). For a single row there is no other prompt, and that is said."""
    for n in (2, 3, 5):
        partner = mismatched([f"P{i}" for i in range(n)])
        assert sorted(partner) == list(range(n))
        assert all(i != j for i, j in enumerate(partner))
    with pytest.raises(AccordError, match="1 of 1 rows have the same prompt"):
        mismatched(["P0"])


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20))
def test_no_row_gets_an_answer_to_its_own_prompt(prompts):
    """Where at most half of the rows share a prompt; otherwise it cannot be, and is refused."""
    if 2 * max(prompts.count(p) for p in prompts) > len(prompts):
        with pytest.raises(AccordError, match="have the same prompt"):
            mismatched(prompts)
        return
    partner = mismatched(prompts)
    assert sorted(partner) == list(range(len(prompts)))
    assert all(prompts[i] != prompts[j] for i, j in enumerate(partner))
