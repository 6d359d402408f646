"""One-pass functions, as they stand and compiled, against the same mathematics through autograd."""

import pytest
import torch
from torch.nn import functional as F

from accord.models import kernels

N, D = 300, 96


@pytest.fixture(params=["as they stand", "compiled"])
def either(request, monkeypatch):
    """Run every function the one way or the other."""
    compiled = request.param == "compiled"
    if compiled and not kernels.has_compiler():
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(kernels, "LEAST_ELEMENTS", 0 if compiled else 1 << 60)
    yield
    assert not kernels.Kernel.broken


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_values_and_gradients(dtype, tolerance):
    def same(a, b):
        assert (a.float() - b.float()).norm() <= tolerance * b.float().norm()

    x, w, g = randn(N, D, dtype=dtype), randn(D, seed=1, dtype=dtype), randn(N, D, seed=2, dtype=dtype)
    x32 = x.float().clone().requires_grad_()
    w32 = w.float().requires_grad_()
    plain = x32 / (x32.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w32
    y, r = kernels.norm(x, w, 1e-5)
    same(y, plain)
    dx, dw = torch.autograd.grad(plain, (x32, w32), g.float())
    same(kernels.norm_backward(g, x, w, r), dx)
    same(kernels.norm_weight_gradient(g, x, r), dw)

    both = randn(N, 2 * D, seed=3, dtype=dtype)
    both32 = both.float().clone().requires_grad_()
    plain = F.silu(both32[:, :D]) * both32[:, D:]
    same(kernels.gate(both), plain)
    same(kernels.gate_backward(both, g), torch.autograd.grad(plain, both32, g.float())[0])

    heads, angle = randn(N, 3, 8, seed=4, dtype=dtype), randn(N, 1, 4, seed=5, dtype=dtype)
    turned = torch.view_as_complex(torch.stack([*heads.float().chunk(2, -1)], -1)) * torch.polar(
        torch.ones_like(angle, dtype=torch.float32), angle.float()
    )
    same(kernels.rotate(heads, angle.cos(), angle.sin()), torch.cat([turned.real, turned.imag], -1))

    logits, other = randn(N, 500, seed=6, dtype=dtype), randn(N, 500, seed=7, dtype=dtype)
    probs, norm_N, entropy_N = kernels.softmax_norm_entropy(logits)
    same(probs, logits.float().softmax(-1))
    torch.testing.assert_close(norm_N, logits.float().logsumexp(-1), atol=1e-5, rtol=1e-5)
    plain_N = torch.distributions.Categorical(logits=logits.float()).entropy()
    torch.testing.assert_close(entropy_N, plain_N, atol=1e-4, rtol=1e-5)
    for a, b in zip(kernels.norm_entropy(logits), (norm_N, entropy_N), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    factor = randn(N, 1, seed=8)
    same(kernels.softmax_times(logits, norm_N[:, None], factor), logits.float().softmax(-1) * factor)
    kl_N, slope = kernels.divergence(logits, other)
    p, q = other.float().softmax(-1), logits.float().softmax(-1)
    torch.testing.assert_close(kl_N, F.kl_div(q.log(), p, reduction="none").sum(-1), atol=1e-4, rtol=1e-4)
    same(slope, q - p)


def test_rotating_back_undoes_it():
    heads, angle = randn(5, 2, 8), randn(5, 1, 4, seed=1)
    there = kernels.rotate(heads, angle.cos(), angle.sin())
    torch.testing.assert_close(kernels.rotate(there, angle.cos(), -angle.sin()), heads)


def failing(monkeypatch, error):
    """A kernel that doubles, whose compiler raises."""

    def fail(*_):
        raise error

    monkeypatch.setattr(kernels, "LEAST_ELEMENTS", 0)
    monkeypatch.setattr(kernels, "has_compiler", lambda: True)
    monkeypatch.setattr(kernels, "compiled", fail)
    monkeypatch.setattr(kernels.Kernel, "broken", False)
    return kernels.Kernel(lambda x: 2 * x)


def test_a_compiler_that_does_not_work_is_said_once_and_done_without(monkeypatch, capsys):
    double = failing(monkeypatch, OSError("no headers"))
    assert double(torch.ones(2)).tolist() == [2, 2]
    assert double(torch.ones(2)).tolist() == [2, 2]
    assert capsys.readouterr().err == "torch.compile failed, so training is slower: OSError: no headers\n"


@pytest.mark.parametrize(
    "error", [RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_memory_that_runs_out_is_no_fault_of_the_compiler(error, monkeypatch, capsys):
    """Training answers it with smaller batches; what is compiled stays in use."""
    double = failing(monkeypatch, error)
    with pytest.raises(type(error)):
        double(torch.ones(2))
    assert not kernels.Kernel.broken
    assert not capsys.readouterr().err


def test_a_fault_of_the_caller_is_not_hidden(monkeypatch):
    monkeypatch.setattr(kernels.Kernel, "broken", True)
    with pytest.raises(RuntimeError, match="size"):
        kernels.rotate(randn(5, 2, 8), randn(5, 1, 3), randn(5, 1, 3))


@pytest.mark.skipif(not kernels.has_compiler(), reason="no C++ compiler")
def test_the_bits_do_not_depend_on_the_first_batch_of_a_process(monkeypatch):
    """Batches of 96 positions (as many as the hidden size), of 1 and of 301 come first; then the same batch again."""
    monkeypatch.setattr(kernels, "LEAST_ELEMENTS", 0)
    x, w = randn(777, D), randn(D, seed=1)
    logits = randn(40, 5000, seed=2)
    found = []
    for first in (D, 1, 301):
        torch._dynamo.reset()
        for kernel in (kernels.norm, kernels.softmax_norm_entropy):
            kernel.compiled, kernel.seen = None, set()
        kernels.norm(randn(first, D), w, 1e-5)
        kernels.softmax_norm_entropy(randn(first, 5000))
        found.append([*kernels.norm(x, w, 1e-5), *kernels.softmax_norm_entropy(logits)])
    assert not kernels.Kernel.broken
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))
