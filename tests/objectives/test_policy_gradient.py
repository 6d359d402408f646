"""Losses of reinforcement learning: by hand, against the policy gradient by enumeration, and what they have in common."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.objectives.dapo import dapo
from accord.objectives.dr_grpo import dr_grpo
from accord.objectives.grpo import grpo
from accord.objectives.gspo import gspo
from accord.objectives.importance import mismatch, truncated_weights
from accord.objectives.kl import kl_estimate, kl_full, kl_loss
from accord.objectives.policy_gradient import Samples, clipped
from accord.objectives.ppo import ppo
from accord.objectives.reduction import Totals, reduce
from accord.objectives.reinforce_plus_plus import reinforce_plus_plus
from accord.objectives.rloo import rloo
from accord.objectives.value import value

NAN = float("nan")
LOSSES = [ppo, grpo, dapo, gspo, rloo, reinforce_plus_plus, partial(dr_grpo, max_tokens=1)]


def t(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def some(logps, old, advantages, mask=None, **more):
    mask = torch.ones_like(old, dtype=torch.bool) if mask is None else mask
    return Samples(logps, old, advantages, mask, **more)


def test_the_clip_by_hand():
    """epsilon 0.2. A = 1: 1.5 counts as 1.2, 0.5 as itself. A = -1: 1.5 as itself, 0.5 as 0.8; with c = 3 a ratio of 9 as 3."""
    ratio, advantage = t(1.5, 0.5, 1.5, 0.5, 9), t(1, 1, -1, -1, -1)
    assert clipped(ratio, advantage, 0.2, 0.2).tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8, 9])
    assert clipped(ratio, advantage, 0.2, 0.2, dual=3).tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8, 3])


def test_the_clip_from_above_alone_is_wider_in_dapo():
    ratio = math.log(1.25)
    samples = some(t([ratio]), t([0.0]), t([1.0]))
    assert ppo(samples).loss_B.item() == pytest.approx(-1.2)
    assert dapo(samples).loss_B.item() == pytest.approx(-1.25)
    assert (ppo(samples).metrics["clipped"].item(), dapo(samples).metrics["clipped"].item()) == (1, 0)


def test_aggregations_by_hand():
    """Answers of 2 tokens (A = 1) and 1 (A = -2), all ratios 1, a limit of 4 tokens.

    Token mean: -(1 + 1 - 2) / 3 = 0. Answer mean: (-1 + 2) / 2. Over the limit: (-2/4 + 2/4) / 2 = 0. One ratio an answer: as the
    answer mean. REINFORCE's value is -A log p: (-1 (-0.5 - 0.5) + 2 (-0.25)) / 2 = 0.25.
    """
    logps = t([-0.5, -0.5], [-0.25, NAN])
    mask = torch.tensor([[True, True], [True, False]])
    samples = some(logps, logps, t([1, 1], [-2, NAN]), mask)
    totals = Totals(tokens=3, examples=2)
    right = {ppo: 0, dapo: 0, grpo: 0.5, gspo: 0.5, rloo: 0.25, partial(dr_grpo, max_tokens=4): 0}
    for loss, expected in right.items():
        assert reduce(loss(samples), totals).item() == pytest.approx(expected), loss


def test_gspo_has_one_ratio_an_answer():
    """Ratios e^0.2 and e^-0.1: the mean of their logs is 0.05, so s = e^0.05, over 1.04 and clipped there."""
    samples = some(t([0.2, -0.1]), t([0, 0]), t([2, 2]))
    assert gspo(samples, clip_high=1).loss_B.item() == pytest.approx(-2 * math.exp(0.05))
    assert gspo(samples, clip_high=0.04).loss_B.item() == pytest.approx(-2 * 1.04)


def test_train_08_masked_nan_leaks():
    """logps -1, -2, old -1, NaN, advantages 2, 5, the second masked: loss -2, KL 0, the gradient of the first token alone."""
    for loss, right in ((ppo, -2.0), (grpo, -2.0), (dapo, -2.0), (gspo, -2.0), (rloo, 2.0)):
        logps = t([-1, -2]).requires_grad_()
        mask = torch.tensor([[True, False]])
        losses = loss(some(logps, t([-1, NAN]), t([2, 5]), mask))
        losses.loss_B.sum().backward()
        assert losses.loss_B.item() == pytest.approx(right), loss
        assert logps.grad.tolist() == [[-2.0, 0.0]], loss
        assert losses.metrics.get("kl_to_old", torch.zeros(1)).item() == 0


def test_train_08_an_unmasked_nan_is_not_hidden():
    mask = torch.tensor([[True, False]])
    old = t([NAN, -2])
    for loss in (ppo, grpo, dapo, gspo):
        assert loss(some(t([-1, -2]), old, t([2, 5]), mask)).loss_B.isnan().all()


def one_step(theta, advantages, old=None):
    """Every token of a vocabulary said once, as an answer of one token each."""
    logps = theta.log_softmax(-1)[:, None]
    return some(logps, logps.detach() if old is None else old, advantages[:, None])


@pytest.mark.parametrize("loss", LOSSES)
def test_at_the_old_model_the_gradient_is_the_policy_gradient(loss):
    """By enumeration: sum over answers of p(y) times the loss's gradient is -d/dtheta sum p(y) r(y), baseline or not."""
    theta = t(0.3, -1.2, 0.8, 0.1).requires_grad_()
    rewards = t(1.0, -0.5, 0.25, 2.0)
    p = theta.softmax(-1)
    (exact,) = torch.autograd.grad(-(p * rewards).sum(), theta)
    for baseline in (0.0, 0.7):
        losses = loss(one_step(theta, rewards - baseline)).loss_B
        (gradient,) = torch.autograd.grad((theta.softmax(-1).detach() * losses).sum(), theta)
        assert torch.allclose(gradient, exact, atol=1e-12)


@pytest.mark.parametrize("loss", [ppo, grpo, dapo, partial(dr_grpo, max_tokens=2)])
def test_of_answers_of_several_tokens_too(loss):
    """Two tokens from a vocabulary of three, the second's distribution depending on the first: 9 answers, enumerated.

    An answer's advantage stands at each of its tokens. Sums over 2 tokens and means over 2 tokens differ by a factor alone.
    """
    torch.manual_seed(0)
    first, second = (torch.randn(n, 3, dtype=torch.float64).requires_grad_() for n in (1, 3))
    rewards = torch.randn(3, 3, dtype=torch.float64)

    def logps():
        a, b = first.log_softmax(-1)[0], second.log_softmax(-1)
        return torch.stack([a[:, None].expand(3, 3), b], -1).reshape(9, 2)

    p = logps().sum(-1).exp()
    exact = torch.autograd.grad(-(p * rewards.flatten()).sum(), (first, second))
    samples = some(logps(), logps().detach(), rewards.reshape(9, 1).expand(9, 2))
    gradient = torch.autograd.grad((p.detach() * loss(samples).loss_B).sum(), (first, second))
    factor = 1 if loss in (ppo, dapo) else 2  # a sum over tokens; a mean over them
    for g, e in zip(gradient, exact, strict=True):
        assert torch.allclose(g * factor, e, atol=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_down_makes_the_better_answer_likelier_and_not_the_worse(loss):
    theta = torch.zeros(2, dtype=torch.float64).requires_grad_()
    loss(one_step(theta, t(1.0, -1.0))).loss_B.sum().backward()
    assert theta.grad[0] < 0 < theta.grad[1]


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_correct_and_extra_is_added(loss):
    """Weights of 1/2 halve the loss without what is added; a penalty of the log-probability itself adds 1 to its gradient."""
    logps = t([-1.0], [-2.0]).requires_grad_()
    plain, advantages = logps.detach(), t([1.0], [-2.0])
    base = loss(some(logps, plain, advantages)).loss_B
    halved = loss(some(logps, plain, advantages, weights_BT=t([0.5], [0.5]))).loss_B
    assert torch.allclose(halved, base / 2)
    more = loss(some(logps, plain, advantages, weights_BT=t([0.5], [0.5]), extra_BT=3 * logps)).loss_B
    assert torch.allclose(more, halved + 3 * plain[:, 0])


@pytest.mark.parametrize("loss", LOSSES)
def test_beyond_the_clip_nothing_moves_but_what_is_pulled_back(loss):
    if loss is rloo:
        return  # has no clip: a batch is taken up once
    far, advantage = t([1.0], [1.0]).requires_grad_(), t([1.0], [-1.0])
    loss(some(far, t([0.0], [0.0]), advantage)).loss_B.sum().backward()
    assert far.grad[0].item() == 0
    assert far.grad[1].item() > 0


@st.composite
def splits(draw):
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    order = draw(st.permutations(range(len(lengths))))
    cuts = sorted({c for c in draw(st.sets(st.integers(1, 5))) if c < len(lengths)})
    edges = [0, *cuts, len(lengths)]
    return lengths, [list(order[a:b]) for a, b in pairwise(edges)], draw(st.integers(0, 999))


@pytest.mark.parametrize("loss", LOSSES)
@given(case=splits())
def test_any_split_gives_the_same_loss_and_gradient(loss, case):
    lengths, batches, seed = case
    generator = torch.Generator().manual_seed(seed)
    start, old, advantages = (torch.randn(len(lengths), 5, generator=generator, dtype=torch.float64) for _ in range(3))
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    totals = Totals(tokens=sum(lengths), examples=len(lengths))

    def run(batches):
        logps = start.clone().requires_grad_()
        total = 0.0
        for rows in batches:
            width = max(lengths[i] for i in rows)
            part = [x[rows, :width] for x in (logps, old, advantages, mask)]
            share = reduce(loss(Samples(*part)), totals)
            share.backward()
            total += share.item()
        return total, logps.grad

    whole, parted = run([list(range(len(lengths)))]), run(batches)
    assert parted[0] == pytest.approx(whole[0], abs=1e-12)
    assert torch.allclose(parted[1], whole[1], atol=1e-12, rtol=0)


def test_kl_estimates_by_hand():
    """p = 1/2, reference 1/4: x = ln 2. k1 ln 2, k2 (ln 2)^2 / 2, k3 1/2 - 1 + ln 2."""
    logps, ref = t(math.log(0.5)), t(math.log(0.25))
    x = math.log(2)
    assert kl_estimate(logps, ref, "k1").item() == pytest.approx(x)
    assert kl_estimate(logps, ref, "k2").item() == pytest.approx(x * x / 2)
    assert kl_estimate(logps, ref, "k3").item() == pytest.approx(x - 0.5)
    assert kl_estimate(logps, logps, "k3").item() == 0


def test_kl_estimates_and_their_gradients_by_enumeration():
    """In expectation k1 and k3 are the KL. As losses: k1's gradient 0, k2's the KL's, k3's that of the KL the other way round;
    weighted by the ratio, all have the KL's own."""
    theta, ref = t(0.3, -1.2, 0.8).requires_grad_(), t(-0.5, 0.2, 0.4)
    exact = kl_full(theta, ref)
    (right,) = torch.autograd.grad(exact, theta)
    (reverse,) = torch.autograd.grad(kl_full(ref, theta), theta)
    zero = torch.zeros_like(right)
    p = theta.softmax(-1).detach()
    ref_logps = ref.log_softmax(-1)
    for estimator, plain in (("k1", zero), ("k2", right), ("k3", reverse)):
        logps = theta.log_softmax(-1)
        estimate = kl_estimate(logps, ref_logps, estimator)
        if estimator != "k2":
            assert (p * estimate).sum().item() == pytest.approx(exact.item())
        (gradient,) = torch.autograd.grad((p * estimate).sum(), theta)
        assert torch.allclose(gradient, plain, atol=1e-12), estimator
        weighted = kl_loss(theta.log_softmax(-1), ref_logps, theta.log_softmax(-1).detach(), estimator)
        (gradient,) = torch.autograd.grad((p * weighted).sum(), theta)
        assert torch.allclose(gradient, right, atol=1e-12), estimator


def test_value_by_hand():
    """V 3, old 1, clip 1/2, return 2: (3 - 2)^2 = 1 against (1.5 - 2)^2; half of the larger. Unclipped the same here."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert value(t([3]), t([1]), t([2]), mask, 0.5).loss_B.item() == 0.5


def test_a_value_that_moved_too_far_is_charged_even_where_it_is_right():
    """V 2, old 1, clip 1/2, return 2: right already, but 0.5 beyond what it may move: (1.5 - 2)^2 / 2."""
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert value(t([2]), t([1]), t([2]), mask, 0.5).loss_B.item() == 0.125
    assert value(t([2]), t([1]), t([2]), mask, math.inf).loss_B.item() == 0
    masked = value(t([2, NAN]), t([1, NAN]), t([2, NAN]), torch.tensor([[True, False]]), 0.5)
    assert masked.loss_B.item() == 0.125


def test_truncated_weights_and_mismatch_by_hand():
    """Learner 0.5 and 0.9, engine 0.1 and 0.6: ratios 5 (cut to 2) and 1.5, apart by 0.4 and 0.3."""
    old, sampled = (t([math.log(a), math.log(b)]) for a, b in ((0.5, 0.9), (0.1, 0.6)))
    assert truncated_weights(old, sampled).tolist()[0] == pytest.approx([2, 1.5])
    off, kl = mismatch(old, sampled)
    assert off.tolist()[0] == pytest.approx([0.4, 0.3])
    assert kl.tolist()[0] == pytest.approx([4 - math.log(5), 0.5 - math.log(1.5)])


def test_the_mean_mismatch_is_the_divergence_by_enumeration():
    p, q = t(0.5, 0.3, 0.2), t(0.4, 0.4, 0.2)
    assert (q * mismatch(p.log(), q.log())[1]).sum().item() == pytest.approx((q * (q / p).log()).sum().item())


@pytest.mark.parametrize("loss", LOSSES)
def test_metrics_carry_no_gradient(loss):
    logps = t([-1.0, -2.0]).requires_grad_()
    assert not any(m.requires_grad for m in loss(some(logps, t([-1, -2]), t([1, 1]))).metrics.values())


@pytest.mark.parametrize("loss", [ppo, grpo, dapo, gspo, rloo, dr_grpo, value])
def test_each_says_its_source_and_its_denominator(loss):
    assert "denominator" in loss.__doc__
    assert "arXiv" in loss.__doc__ or "OpenAI" in loss.__doc__
