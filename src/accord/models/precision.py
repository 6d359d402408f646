"""Which number format a model runs in on the hardware at hand."""

from __future__ import annotations

import os
from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16", "int8", "nf4"]
QUANTISED = ("int8", "nf4")


def pick_device() -> torch.device:
    """Return this process's CUDA device where there is one, else the CPU.

    Processes that train together are numbered on their machine by `LOCAL_RANK`, as torchrun and `accelerate launch` set it.
    """
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware.

    A CPU without AVX-512-BF16 or AMX runs bf16 several times slower than fp32 (measured in docs/log.md), so software support
    does not count.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the dtype of weights and activations; adapters, the masters of weights that are trained, and losses stay in fp32.

    Where weights are quantised, it is that of the activations and of all other weights.
    """
    if precision == "auto" or precision in QUANTISED:
        return torch.bfloat16 if has_native_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
