"""Functions that go over whole activations, each in one pass where a C++ compiler is at hand.

PyTorch's inductor turns each into one loop; the second process that needs it reads it from inductor's cache. Without a
compiler, off the CPU, and where there is too little to gain, the same lines run as they stand: on a GPU a process's first batch
took 40 s longer for it, and a gain was not shown (docs/log.md).

Shapes: N positions, D hidden size, F inner width, H heads, V vocabulary.
"""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._triton import has_triton

from accord.models.cache import cache_dir

# Below this, looking the compiled function up costs what its one pass saves; a decoding step stays below.
LEAST_ELEMENTS = 1 << 17
EXAMPLE_ROWS = 256


class Kernel:
    """A function of tensors over positions that is compiled when it is first worth while.

    Tensors of one dimension are weights; of the others the first dimension is the positions'. Inductor looks at the sizes of the
    first call when it chooses how to loop. That call is therefore an example of one fixed size: the code, and with it every bit
    of a result, must not depend on which batch a process, or a resumed one, happens to begin with.
    """

    broken = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = None
        self.seen: set[Any] = set()
        functools.update_wrapper(self, function)

    def __call__(self, *given: Any) -> Any:
        """As the function itself."""
        first = given[0]
        if first.numel() < LEAST_ELEMENTS or first.device.type != "cpu" or Kernel.broken or not has_compiler():
            return self.function(*given)
        try:
            if self.compiled is None:
                self.compiled = compiled(self.function)
            kind = (
                torch.is_inference_mode_enabled(),
                *((x.dtype, x.shape[1:], x.stride()) for x in given if _over_positions(x)),
            )
            if kind not in self.seen:
                self.compiled(*map(_example, given))
                self.seen.add(kind)
            return self.compiled(*given)
        except Exception as error:
            if "DefaultCPUAllocator" in str(error) or isinstance(error, MemoryError):
                raise  # the batch is too large, whose lines as they stand would need more still
            # A compiler that is there and does not work (no headers, a read-only cache): slower, and as right.
            Kernel.broken = True
            # Not a warning: the command line silences those of the libraries, and this costs the user hours.
            print(f"torch.compile failed, so training is slower: {type(error).__name__}: {error}", file=sys.stderr)
            return self.function(*given)


def _over_positions(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dim() > 1


def _example(x: Any) -> Any:
    if not _over_positions(x):
        return x
    example = torch.zeros(EXAMPLE_ROWS * x.stride(0), dtype=x.dtype).as_strided(
        (EXAMPLE_ROWS, *x.shape[1:]), x.stride()
    )
    torch._dynamo.mark_dynamic(example, 0)
    return example


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Return the function compiled by inductor, whose cache is kept beside Accord's own."""
    import torch._dynamo.config
    import torch._inductor.config

    torch._inductor.config.compile_threads = 1  # in this process: a pool of workers would outlive a kill
    torch._dynamo.config.recompile_limit = 64  # beyond it a function runs uncompiled, with other bits
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_dir() / "compiled"))
    return torch.compile(function, **options)


@functools.cache
def has_compiler(device_type: str = "cpu") -> bool:
    """Whether inductor would find what it needs: a C++ compiler, and for a GPU Triton besides."""
    if device_type != "cpu" and not (device_type == "cuda" and has_triton()):
        return False
    named = os.environ.get("CXX")
    return any(shutil.which(name) for name in ([named] if named else ["g++", "clang++"]))


@Kernel
def norm(x_ND: Tensor, weight_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return w x r and r = 1 / sqrt(mean(x^2) + e), in fp32. Shapes [N, D], [N, 1]."""
    wide = x_ND.float()
    r = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
    return weight_D * (wide * r).to(x_ND.dtype), r


@Kernel
def norm_backward(grad_ND: Tensor, x_ND: Tensor, weight_D: Tensor, r: Tensor) -> Tensor:
    """Return dx = r (g w - x r mean(g w x r)). Shape [N, D]."""
    unit, grad = x_ND.float() * r, (grad_ND * weight_D).float()
    return ((grad - unit * (grad * unit).mean(-1, keepdim=True)) * r).to(x_ND.dtype)


@Kernel
def norm_weight_gradient(grad_ND: Tensor, x_ND: Tensor, r: Tensor) -> Tensor:
    """Return dw = sum over positions of g x r, in fp32. Shape [D]."""
    return (grad_ND.float() * (x_ND.float() * r)).sum(0)


@Kernel
def gate(gate_up_NF: Tensor) -> Tensor:
    """Return silu(g) u of g and u side by side. Shapes [N, 2 F] -> [N, F]."""
    g, u = gate_up_NF.chunk(2, -1)
    return F.silu(g) * u


@Kernel
def gate_backward(gate_up_NF: Tensor, grad_NF: Tensor) -> Tensor:
    """Return (da u silu'(g), da silu(g)) side by side. Shape [N, 2 F]."""
    g, u = gate_up_NF.chunk(2, -1)
    return torch.cat([torch.ops.aten.silu_backward(grad_NF * u, g), grad_NF * F.silu(g)], -1)


@Kernel
def rotate(x_NHD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return (x1 c - x2 s, x2 c + x1 s), the halves of each head. Shapes [N, H, D]; cos and sin [N, 1, D / 2]."""
    one, two = x_NHD.chunk(2, -1)
    return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


@Kernel
def softmax_norm_entropy(logits_NV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return p = softmax(x), in the logits' format, log sum exp x and log sum exp x - sum p x, in fp32. Shapes [N, V], [N], [N]."""
    wide = logits_NV.float()
    norm_N1 = torch.logsumexp(wide, -1, keepdim=True)
    p = (wide - norm_N1).exp()
    norm_N = norm_N1.squeeze(-1)
    return p.to(logits_NV.dtype), norm_N, norm_N - (p * wide).sum(-1)


@Kernel
def norm_entropy(logits_NV: Tensor) -> tuple[Tensor, Tensor]:
    """As `softmax_norm_entropy`, without the distribution itself. Shapes [N], [N]."""
    wide = logits_NV.float()
    norm_N1 = torch.logsumexp(wide, -1, keepdim=True)
    norm_N = norm_N1.squeeze(-1)
    return norm_N, norm_N - ((wide - norm_N1).exp() * wide).sum(-1)


@Kernel
def softmax_times(logits_NV: Tensor, norm_N1: Tensor, factor_N1: Tensor) -> Tensor:
    """Return c softmax(x), given log sum exp x, in the logits' format. Shape [N, V]."""
    return ((logits_NV.float() - norm_N1).exp() * factor_N1).to(logits_NV.dtype)


@Kernel
def divergence(logits_NV: Tensor, reference_NV: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(p || q) in fp32, and q - p: q the softmax of the logits, p the reference's. Shapes [N], [N, V]."""
    log_q, log_p = (F.log_softmax(x.float(), -1) for x in (logits_NV, reference_NV))
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(-1), (log_q.exp() - p).to(logits_NV.dtype)
