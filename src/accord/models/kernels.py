"""Functions that go over whole activations, each in one pass where a C++ compiler is at hand.

PyTorch's inductor turns each into one loop; the second process that needs it reads it from inductor's cache. Without a
compiler, off the CPU, and where there is too little to gain, the same lines run as they stand.

Shapes: N positions, D hidden size, F inner width, H query and K key heads, V vocabulary.
"""

from __future__ import annotations

import functools
import os
import shutil
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from accord.models.load import cache_dir

# Below this, looking the compiled function up costs what its one pass saves; a decoding step stays below.
LEAST_ELEMENTS = 1 << 17


class Kernel:
    """A function of tensors that is compiled when it is first worth while."""

    broken = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        functools.update_wrapper(self, function)

    def __call__(self, first: Tensor, *more: Any) -> Any:
        """As the function itself."""
        if first.numel() < LEAST_ELEMENTS or first.device.type != "cpu" or Kernel.broken or not has_compiler():
            return self.function(first, *more)
        try:
            if self.compiled is None:
                self.compiled = _compiled(self.function)
            return self.compiled(first, *more)
        except Exception as error:
            # A compiler that is there and does not work (no headers, a read-only cache): slower, and as right.
            Kernel.broken = True
            warnings.warn(f"torch.compile failed, so training is slower: {type(error).__name__}: {error}", stacklevel=2)
            return self.function(first, *more)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    from torch._inductor import config

    config.compile_threads = 1  # in this process: a pool of workers would outlive a kill
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))
    return torch.compile(function, dynamic=True)


@functools.cache
def has_compiler() -> bool:
    """Whether inductor would find a C++ compiler."""
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))


@Kernel
def norm(x_ND: Tensor, weight_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return w x r and r = 1 / sqrt(mean(x^2) + e), in fp32. Shapes [..., D], [..., 1]."""
    wide = x_ND.float()
    r = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight_D * (wide * r).to(x_ND.dtype), r


@Kernel
def norm_backward(grad_ND: Tensor, x_ND: Tensor, weight_D: Tensor, r: Tensor) -> Tensor:
    """Return dx = r (g w - x r mean(g w x r)). Shape [..., D]."""
    unit, grad = x_ND.float() * r, (grad_ND * weight_D).float()
    return ((grad - unit * (grad * unit).mean(-1, keepdim=True)) * r).to(x_ND.dtype)


@Kernel
def gate(gate_up: Tensor) -> Tensor:
    """Return silu(g) u of g and u side by side. Shapes [..., 2 F] -> [..., F]."""
    g, u = gate_up.chunk(2, -1)
    return F.silu(g) * u


@Kernel
def gate_backward(gate_up: Tensor, grad: Tensor) -> Tensor:
    """Return (da u silu'(g), da silu(g)) side by side. Shape [..., 2 F]."""
    g, u = gate_up.chunk(2, -1)
    return torch.cat([torch.ops.aten.silu_backward(grad * u, g), grad * F.silu(g)], -1)


@Kernel
def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return (x1 c - x2 s, x2 c + x1 s), the halves of each head. Shapes [..., heads, D]; cos and sin [..., 1, D / 2]."""
    one, two = x.chunk(2, -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


@Kernel
def softmax_and_norm(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Return softmax(x), in the logits' format, and log sum exp x, in fp32. Shapes [N, V], [N]."""
    wide = logits_NV.float()
    norm_N1 = torch.logsumexp(wide, -1, keepdim=True)
    return (wide - norm_N1).exp().to(logits_NV.dtype), norm_N1.squeeze(-1)


@Kernel
def divergence(logits_NV: Tensor, reference_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(p || q) in fp32, and q - p: q the softmax of the logits, p the reference's. Shapes [N], [N, V]."""
    log_q, log_p = (F.log_softmax(x.float(), -1) for x in (logits_NV, reference_NV))
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(-1), (log_q.exp() - p).to(logits_NV.dtype)
