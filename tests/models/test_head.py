import math

import pytest
import torch
from torch.nn import functional as F

from accord.models.head import CHUNK_ROWS, TRAINED_CHUNK_ROWS, any_of_logps, forward_kl, reverse_kl, token_logps
from accord.models.projection import Projection

N, D, V = TRAINED_CHUNK_ROWS + CHUNK_ROWS + 37, 16, 50  # more than one chunk of either kind
KINDS = ["frozen tensor", "packed", "trained"]


def data(seed=0):
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(V, D, generator=g) / 2
    return torch.randn(N, D, generator=g), weight, torch.randint(V, (N,), generator=g), torch.randn(N, generator=g)


def head_of(kind, weight):
    return {"frozen tensor": weight, "packed": Projection(weight), "trained": weight}[kind]


def gradients(loss_N, upstream_N, hidden, weight, kind):
    wanted = [hidden, weight] if kind == "trained" else [hidden]
    return torch.autograd.grad((loss_N * upstream_N).sum(), wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_token_logps_equal_the_plain_log_softmax_in_value_and_gradient(kind):
    hidden, weight, targets, upstream = data()
    hidden.requires_grad_()
    weight.requires_grad_(kind == "trained")
    got = token_logps(hidden, head_of(kind, weight), targets).logps_N
    plain = F.log_softmax(hidden @ weight.T, -1).gather(1, targets[:, None]).squeeze(1)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=0)
    for mine, theirs in zip(
        gradients(got, upstream, hidden, weight, kind), gradients(plain, upstream, hidden, weight, kind), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_kl_equals_the_plain_one_in_value_and_gradient(kind):
    hidden, weight, _, upstream = data()
    reference, reference_weight, _, _ = data(seed=1)
    hidden.requires_grad_()
    weight.requires_grad_(kind == "trained")
    got = forward_kl(hidden, head_of(kind, weight), reference, reference_weight)
    p, q = F.log_softmax(reference @ reference_weight.T, -1), F.log_softmax(hidden @ weight.T, -1)
    plain = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert bool((got >= 0).all())
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(
        gradients(got, upstream, hidden, weight, kind), gradients(plain, upstream, hidden, weight, kind), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_reverse_kl_equals_the_plain_one_in_value_and_gradient(kind):
    hidden, weight, _, upstream = data()
    reference, reference_weight, _, _ = data(seed=1)
    hidden.requires_grad_()
    weight.requires_grad_(kind == "trained")
    got = reverse_kl(hidden, head_of(kind, weight), reference, reference_weight)
    p, q = F.log_softmax(reference @ reference_weight.T, -1), F.log_softmax(hidden @ weight.T, -1)
    plain = F.kl_div(p, q, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(
        gradients(got, upstream, hidden, weight, kind), gradients(plain, upstream, hidden, weight, kind), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_states_have_no_divergence_and_no_slope(kind):
    hidden, weight, _, _ = data()
    hidden.requires_grad_()
    weight.requires_grad_(kind == "trained")
    kl = forward_kl(hidden, head_of(kind, weight), hidden.detach(), weight.detach())
    assert kl.abs().max().item() < 1e-6
    (slope,) = torch.autograd.grad(kl.sum(), [hidden])
    assert slope.abs().max().item() < 1e-6


def test_the_divergence_is_the_forward_one_by_hand():
    """Reference 1/2, 1/2 and model 1/4, 3/4: 1/2 ln 2 + 1/2 ln(2/3) = 0.143841. The reverse would be 0.130812."""
    model, reference = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    kl = forward_kl(model, torch.eye(2), reference, torch.eye(2))
    assert kl.item() == pytest.approx(0.143841, abs=1e-6)
    assert reverse_kl(model, torch.eye(2), reference, torch.eye(2)).item() == pytest.approx(0.130812, abs=1e-6)


def test_token_logps_by_hand():
    logits = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]).log()
    got = token_logps(logits, torch.eye(3), torch.tensor([0, 1])).logps_N
    assert got.tolist() == pytest.approx([-math.log(2), -3 * math.log(2)], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_position_at_all(kind):
    hidden, weight, targets, _ = data()
    hidden = hidden[:0].clone().requires_grad_()
    weight.requires_grad_(kind == "trained")
    assert token_logps(hidden, head_of(kind, weight), targets[:0]).logps_N.shape == (0,)
    assert forward_kl(hidden, head_of(kind, weight), hidden.detach(), weight.detach()).shape == (0,)


def test_a_step_up_the_gradient_makes_the_target_likelier():
    hidden, weight, targets, _ = data()
    hidden.requires_grad_()
    before = token_logps(hidden, weight, targets).logps_N
    (slope,) = torch.autograd.grad(before.sum(), [hidden])
    after = token_logps(hidden.detach() + 1e-2 * slope, weight, targets).logps_N
    assert bool((after > before).all())


@pytest.mark.parametrize("kind", KINDS)
def test_any_of_logps_equal_the_plain_sum_in_value_and_gradient(kind):
    """A set of three, one with a token listed twice, which counts once; and the whole vocabulary, which is certain."""
    hidden, weight, _, upstream = data()
    hidden, upstream = hidden[:5].requires_grad_(), upstream[:5]
    weight.requires_grad_(kind == "trained")
    sets = torch.tensor([[3, 7, 9], [1, 1, 2], [0, 5, 49], [4, 4, 4], [8, 9, 10]])
    probs = F.linear(hidden, weight).softmax(-1)
    plain = torch.stack([p[sorted(set(s.tolist()))].sum() for p, s in zip(probs, sets, strict=True)]).log()
    got = any_of_logps(hidden, head_of(kind, weight), sets)
    torch.testing.assert_close(got, plain)
    for a, b in zip(*(gradients(x, upstream, hidden, weight, kind) for x in (got, plain)), strict=True):
        torch.testing.assert_close(a, b)
    everything = torch.arange(V).expand(5, -1)
    torch.testing.assert_close(any_of_logps(hidden, head_of(kind, weight), everything), torch.zeros(5))


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_taken_out_of_the_reference_by_hand(kind):
    """Reference 1/2, 1/4, 1/4 without its first token: 0, 1/2, 1/2. Model 1/4, 1/2, 1/4: 1/2 ln 1 + 1/2 ln 2 = 0.346574.

    The slope is the model's distribution minus that one: 1/4, 0, -1/4. The second position keeps all its tokens.
    """
    model = torch.tensor([[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]]).log().requires_grad_()
    reference = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]]).log()
    weight = torch.eye(3).requires_grad_(kind == "trained")
    kl = forward_kl(model, head_of(kind, weight), reference, torch.eye(3), torch.tensor([[0], [-1]]))
    assert kl.tolist() == pytest.approx([0.5 * math.log(2), 0.0], abs=1e-6)
    (slope,) = torch.autograd.grad(kl.sum(), [model])
    assert slope[0].tolist() == pytest.approx([0.25, 0.0, -0.25], abs=1e-6)
    assert slope[1].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_a_token_that_is_all_of_the_reference_leaves_a_finite_divergence():
    """Logits 90, 0, 0 without the first: 0, 1/2, 1/2, against a model that is sure of the first."""
    logits = torch.tensor([[90.0, 0.0, 0.0]])
    kl = forward_kl(logits, torch.eye(3), logits, torch.eye(3), torch.tensor([[0]]))
    assert kl.item() == pytest.approx(90 - math.log(2), abs=1e-3)


def test_several_tokens_taken_out_by_hand():
    """Reference 1/2, 1/4, 1/4 without its first and last: all of it is the second; the model's 1/2 there costs ln 2."""
    model, reference = torch.tensor([[0.25, 0.5, 0.25]]).log(), torch.tensor([[0.5, 0.25, 0.25]]).log()
    kl = forward_kl(model, torch.eye(3), reference, torch.eye(3), torch.tensor([[0, 2, -1]]))
    assert kl.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_entropy_is_that_of_the_whole_distribution(kind):
    hidden, weight, targets, _ = data()
    weight.requires_grad_(kind == "trained")
    told = token_logps(hidden, head_of(kind, weight), targets)
    log_p = F.log_softmax(hidden @ weight.T, -1)
    torch.testing.assert_close(told.entropy_N, -(log_p.exp() * log_p).sum(-1), atol=1e-5, rtol=1e-5)
    assert not told.entropy_N.requires_grad


def test_entropy_by_hand():
    """All three equally likely: ln 3 nats. Certain of one: 0."""
    logits = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    told = token_logps(logits, torch.eye(3), torch.tensor([0, 0]))
    assert told.entropy_N.tolist() == pytest.approx([math.log(3), 0.0], abs=1e-6)
