r"""Each method of reinforcement learning, run to convergence on one step of a small vocabulary, ends where theory says.

With a penalty \beta KL(p || p_ref) the best model is p_ref exp(r / \beta) / Z; without one it is the arg max. Answers are sampled,
and each group's advantages are computed as in training: advantage, penalty, loss and aggregation are tested together.
"""

import math
from functools import partial

import pytest
import torch

from accord.objectives.advantages import grpo_advantages, reinforce_plus_plus_advantages, rloo_advantages
from accord.objectives.dapo import dapo
from accord.objectives.dr_grpo import dr_grpo
from accord.objectives.gae import gae
from accord.objectives.grpo import grpo
from accord.objectives.gspo import gspo
from accord.objectives.kl import kl_estimate, kl_full, kl_loss
from accord.objectives.lagrangian import Multiplier
from accord.objectives.policy_gradient import Samples
from accord.objectives.ppo import ppo
from accord.objectives.reduction import Totals, reduce
from accord.objectives.reinforce_plus_plus import reinforce_plus_plus
from accord.objectives.rloo import rloo
from accord.objectives.value import value

REWARDS = torch.tensor([1.0, 0.2, -0.5, 0.6, 0.0])
REFERENCE = torch.tensor([0.1, -0.4, 0.6, 0.2, -0.8]).log_softmax(-1)
BETA = 0.5
N_GROUPS, GROUP = 128, 8
UNSCALED = partial(grpo_advantages, scaled=False)


def total_variation(logps, target):
    return 0.5 * (logps.exp() - target).abs().sum().item()


def tilted(rewards=REWARDS, beta=BETA):
    return (REFERENCE + rewards / beta).softmax(-1)


def trained(step, n_steps=300, rate=0.1, seed=0, inner=1):
    """Return the model's log-probabilities after so many batches; `step(logps, old, tokens, groups, theta)` gives a loss.

    What is returned is the mean over the last half of the steps: noise of single batches is not what is tested.
    """
    generator = torch.Generator().manual_seed(seed)
    theta = REFERENCE.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=rate)
    groups = torch.arange(N_GROUPS).repeat_interleave(GROUP)
    late = torch.zeros_like(REFERENCE)
    for k in range(n_steps):
        for rate_group in optimizer.param_groups:
            rate_group["lr"] = rate * (1 - k / n_steps) + 1e-3
        old = theta.detach().log_softmax(-1)
        tokens = torch.multinomial(old.exp(), N_GROUPS * GROUP, replacement=True, generator=generator)
        for _ in range(inner):
            optimizer.zero_grad()
            step(theta.log_softmax(-1), old, tokens, groups, theta).backward()
            optimizer.step()
        if k >= n_steps // 2:
            late += theta.detach().log_softmax(-1).exp() / (n_steps - n_steps // 2)
    return late.log()


def loss_of(objective, advantages, tokens, logps, old, extra=None):
    ones = torch.ones(len(tokens), 1, dtype=torch.bool)
    samples = Samples(logps[tokens][:, None], old[tokens][:, None], advantages[:, None], ones, extra_BT=extra)
    return reduce(objective(samples), Totals(len(tokens), len(tokens)))


def in_reward(objective, advantages):
    """The penalty is k1, in the reward."""

    def step(logps, old, tokens, groups, _):
        rewards = REWARDS[tokens] - BETA * kl_estimate(old[tokens], REFERENCE[tokens], "k1")
        return loss_of(objective, advantages(rewards, groups).values_S, tokens, logps, old)

    return step


def in_loss(objective, advantages, penalty):
    """The penalty is added to the loss."""

    def step(logps, old, tokens, groups, theta):
        extra = BETA * penalty(logps, old, tokens, theta)
        return loss_of(objective, advantages(REWARDS[tokens], groups).values_S, tokens, logps, old, extra[:, None])

    return step


def sampled(estimator):
    return lambda logps, old, tokens, _: kl_loss(logps[tokens], REFERENCE[tokens], old[tokens], estimator)


def whole(logps, old, tokens, theta):
    return kl_full(theta, REFERENCE).expand(len(tokens))


@pytest.mark.parametrize("objective", [rloo, ppo, dapo, grpo, reinforce_plus_plus, partial(dr_grpo, max_tokens=1)])
def test_with_the_penalty_in_the_reward_it_is_the_tilted_reference(objective):
    assert total_variation(trained(in_reward(objective, rloo_advantages)), tilted()) < 0.02


def test_gspo_too_whose_narrow_clip_ends_a_batch_sooner():
    assert total_variation(trained(in_reward(gspo, rloo_advantages)), tilted()) < 0.02


@pytest.mark.parametrize("penalty", [sampled("k1"), sampled("k2"), sampled("k3"), whole])
def test_with_the_penalty_in_the_loss_too(penalty):
    assert total_variation(trained(in_loss(grpo, rloo_advantages, penalty)), tilted()) < 0.02


def test_several_passes_over_a_batch_end_at_the_same_model():
    step = in_loss(grpo, rloo_advantages, sampled("k3"))
    assert total_variation(trained(step, inner=3), tilted()) < 0.02


def test_grpo_without_deviation_holds_an_answer_against_itself_too():
    """Its own reward in the baseline makes the gradient (G - 1) / G of the exact one: beta is as if G / (G - 1) times larger."""
    model = trained(in_loss(grpo, UNSCALED, sampled("k3")))
    assert total_variation(model, tilted(beta=BETA * GROUP / (GROUP - 1))) < 0.02


def test_grpo_with_deviation_is_the_reference_tilted_by_what_an_answer_is_worth_in_a_group():
    """Divided by its group's deviation an answer's advantage is no line in its reward: p is p_ref exp(a / beta) / Z, where a is
    the advantage that the answer has on average among the model's own groups. That is another model than the reward's.
    """
    model = trained(in_loss(grpo, grpo_advantages, sampled("k3")))
    generator = torch.Generator().manual_seed(9)
    n = 400_000
    tokens = torch.multinomial(model.exp(), n, replacement=True, generator=generator)
    found = grpo_advantages(REWARDS[tokens], torch.arange(n) // GROUP).values_S
    worth = torch.stack([found[tokens == y].mean() for y in range(5)])
    assert total_variation(model, (REFERENCE + worth / BETA).softmax(-1)) < 0.02
    assert total_variation(model, tilted()) > 0.1


def test_k3_as_published_pulls_towards_the_reference_the_other_way_round():
    """Its gradient is that of KL(p_ref || p): with a = r - c, p is beta p_ref / (beta - a), for such a c that p adds up to 1."""
    plain = lambda logps, old, tokens, _: kl_estimate(logps[tokens], REFERENCE[tokens], "k3")  # noqa: E731
    model = trained(in_loss(grpo, rloo_advantages, plain))
    low, high = REWARDS.max().item() - BETA, 10.0
    for _ in range(60):
        mean = (low + high) / 2
        total = (BETA * REFERENCE.exp() / (BETA - (REWARDS - mean))).sum().item()
        low, high = (mean, high) if total > 1 else (low, mean)
    assert total_variation(model, BETA * REFERENCE.exp() / (BETA - (REWARDS - mean))) < 0.02
    assert total_variation(model, tilted()) > 0.02


@pytest.mark.parametrize(
    ("objective", "advantages"),
    [
        (ppo, UNSCALED),
        (grpo, grpo_advantages),
        (partial(dr_grpo, max_tokens=1), UNSCALED),
        (dapo, grpo_advantages),
        (rloo, rloo_advantages),
        (reinforce_plus_plus, reinforce_plus_plus_advantages),
        (reinforce_plus_plus, partial(reinforce_plus_plus_advantages, baseline=False)),
    ],
)
def test_without_a_penalty_it_is_the_best_answer(objective, advantages):
    def step(logps, old, tokens, groups, _):
        return loss_of(objective, advantages(REWARDS[tokens], groups).values_S, tokens, logps, old)

    best = torch.zeros(5)
    best[REWARDS.argmax()] = 1
    assert total_variation(trained(step, rate=0.2), best) < 0.02


def test_gspo_reaches_the_best_answer_too():
    def step(logps, old, tokens, groups, _):
        return loss_of(gspo, grpo_advantages(REWARDS[tokens], groups).values_S, tokens, logps, old)

    best = torch.zeros(5)
    best[REWARDS.argmax()] = 1
    assert total_variation(trained(step, rate=0.2), best) < 0.02


def test_ppo_with_a_value_model_and_gae_over_two_steps():
    """Two tokens, a distribution after each first one: the tilted reference over all 9 answers, the KL in each token's reward."""
    generator = torch.Generator().manual_seed(1)
    rewards = torch.randn(3, 3, generator=generator)
    weights = [torch.zeros(3), torch.zeros(3, 3), torch.zeros(()), torch.zeros(3)]
    first, second, v0, v1 = (w.requires_grad_() for w in weights)
    optimizer = torch.optim.Adam([first, second, v0, v1], lr=0.1)
    mask, totals = torch.ones(1024, 2, dtype=torch.bool), Totals(2048, 1024)
    late = torch.zeros(3, 3)

    def of(a, b):
        logps = torch.stack([first.log_softmax(-1)[a], second.log_softmax(-1)[a, b]], -1)
        return logps, torch.stack([v0.expand(len(a)), v1[a]], -1)

    for k in range(400):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - k / 400) + 1e-3
        a = torch.multinomial(first.detach().softmax(-1), 1024, replacement=True, generator=generator)
        b = torch.multinomial(second.detach().softmax(-1)[a], 1, generator=generator).squeeze(1)
        old, old_values = (x.detach() for x in of(a, b))
        told = -BETA * (old - math.log(1 / 3))
        told[:, 1] += rewards[a, b]
        estimated = gae(told, old_values, mask)
        for _ in range(2):
            optimizer.zero_grad()
            logps, values = of(a, b)
            loss = reduce(ppo(Samples(logps, old, estimated.advantages_BT, mask)), totals)
            (loss + reduce(value(values, old_values, estimated.returns_BT, mask), totals)).backward()
            optimizer.step()
        if k >= 200:
            late += (first.softmax(-1)[:, None] * second.softmax(-1)).detach() / 200
    target = (rewards / BETA).flatten().softmax(-1)
    assert 0.5 * (late.flatten() - target).abs().sum().item() < 0.02
    # What the value model ends with is what the KL-regularised problem is worth: beta log of the mean of exp(r / beta).
    worth = BETA * (torch.logsumexp((rewards / BETA).flatten(), 0) - math.log(9))
    assert v0.item() == pytest.approx(worth.item(), abs=0.05)


def test_a_limit_on_the_cost_holds_where_the_unconstrained_model_breaks_it():
    """The best answer costs 1, all others nothing; at most 0.3 may be paid on average: it is said that often, and no more."""
    costs, limit = torch.tensor([1.0, 0, 0, 0, 0]), 0.3
    multiplier = Multiplier(limit=limit, rate=0.05)

    def step(logps, old, tokens, groups, _):
        nonlocal multiplier
        multiplier = multiplier.updated(costs[tokens].mean().item())
        rewards = multiplier.combined(REWARDS[tokens], costs[tokens]) * (1 + multiplier.value)
        rewards = rewards - 0.1 * kl_estimate(old[tokens], REFERENCE[tokens], "k1")
        return loss_of(rloo, rloo_advantages(rewards, groups).values_S, tokens, logps, old)

    model = trained(step, n_steps=600, rate=0.05)
    free = tilted(beta=0.1)
    assert (free * costs).sum().item() > 0.8
    assert (model.exp() * costs).sum().item() == pytest.approx(limit, abs=0.03)
    assert (model.exp() * REWARDS).sum() > (REFERENCE.exp() * REWARDS).sum()
