"""Whether a causal model's logits are what losses take them for: its last hidden states times its head's weight.

Most models give just these. Some multiply them by a constant (Granite, Cohere), which the head's weight can take in. Others add a
bias (Phi) or bend them (Gemma 2's cap), which no weight says: a loss would be taken of another distribution than the model samples
from. What a model does is found by asking its own forward pass, with chosen states in its layers' stead, not by its configuration:
the fields have many names, and `logits_scaling` divides in one architecture and multiplies in another.

Shapes: B rows, L positions, D hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accord.errors import ModelError

N_TOKENS = 2
# About the largest logit of the trial: any cap that acts on a model's own logits shows here.
LARGEST = 100.0
# Largest difference from a multiple of the states' product with the head, relative to the logits. Rounding makes 1e-6 of it in fp32
# and 2e-3 in bf16; a cap of 50 a tenth.
MOST_DIFFERENCE = {torch.float32: 1e-3}
MOST_DIFFERENCE_BELOW_FP32 = 1e-2

_scales: WeakKeyDictionary[nn.Module, float] = WeakKeyDictionary()


def inner_of(model: Any) -> Any:
    """Return the language model itself, adapters included, of a plain or a PEFT-wrapped one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def logit_scale(model: nn.Module) -> float:
    """Return s where a causal model's logits are s times its last hidden states times its head's weight.

    The model is tried once; where its weights will be spread over processes, before they are.

    Raises:
        ModelError: its logits are something else.
    """
    inner = inner_of(model)
    if inner not in _scales:
        _scales[inner] = _tried(inner)
    return _scales[inner]


@torch.no_grad()
def _tried(inner: Any) -> float:
    head = inner.get_output_embeddings()
    weight: Tensor = head.weight
    if getattr(head, "bias", None) is not None:
        raise _not_linear(inner, "its head has a bias")
    states_BLD = torch.randn(1, N_TOKENS, weight.shape[1], generator=torch.Generator().manual_seed(0)).to(weight)
    plain_BLV = F.linear(states_BLD, weight)
    # A power of two, which changes no digit.
    factor = 2.0 ** round(math.log2(LARGEST / float(plain_BLV.abs().max())))
    ids_BL = torch.zeros(1, N_TOKENS, dtype=torch.long, device=weight.device)
    with _giving(inner.get_decoder(), factor * states_BLD):
        said = inner(input_ids=ids_BL, use_cache=False).logits.double().flatten()
    plain = factor * plain_BLV.double().flatten()
    scale = float(said @ plain / (plain @ plain))
    most = MOST_DIFFERENCE.get(weight.dtype, MOST_DIFFERENCE_BELOW_FP32)
    if not (said - scale * plain).norm() <= most * said.norm():
        cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
        raise _not_linear(inner, f"it caps them at {cap}" if cap else "its forward pass changes them")
    return 1.0 if abs(scale - 1) <= most else scale


def _not_linear(inner: Any, why: str) -> ModelError:
    name = inner.config._name_or_path or inner.config.model_type
    return ModelError(
        f"no log-probabilities can be taken from '{name}' ({inner.config.model_type}): its logits are not its last hidden states "
        f"times its head's weight, since {why}. It can be sampled from; to train, or to judge by likelihood, use another model"
    )


class _States:
    """What a decoder is made to return: last hidden states, and nothing else that a model may hand on."""

    def __init__(self, states_BLD: Tensor) -> None:
        self.last_hidden_state = states_BLD

    def __getitem__(self, _: Any) -> Tensor:
        return self.last_hidden_state

    def __getattr__(self, _: str) -> None:
        return None


@contextmanager
def _giving(decoder: nn.Module, states_BLD: Tensor) -> Iterator[None]:
    """Let a decoder return states without running its layers."""
    own = vars(decoder).get("forward")
    decoder.forward = lambda *_, **__: _States(states_BLD)
    try:
        yield
    finally:
        if own is None:
            del decoder.forward
        else:
            decoder.forward = own
