r"""How many floating-point operations a training pass needs: the arithmetic that its speed is held against.

With N weights of linear maps in the layers, H of the head (0 where there is none), Λ of LoRA adapters, L layers of width h (heads
times their size), T positions forwarded, A answer positions and K causal pairs of a query and a key, a pass with ρ forward
passes of the reference needs

    LoRA    (2NT + 2HA)(2 + ρ) + 6ΛT + 4hLK(3 + ρ)
    full    (2NT + 2HA)(3 + ρ)       + 4hLK(3 + ρ)

A product of a weight and a position is 2 operations forward, 2 for the gradient of what came in, 2 for the weight's own, which a
frozen weight has not. A pair of a query and a key costs 2h a layer for its score and 2h for its value; both factors of both
products have a gradient, which is twice that again. A prompt is counted once for all that hangs on it, and so is what all trees
of a step begin with (`Lengths.shared`). What is computed twice to spare memory is not needed and does not count; nor do norms,
softmax, the embedding and the optimiser, all of which are small beside the products. Mixtures of experts, where a position meets
some weights only, are over-counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from accord.models.logits import inner_of
from accord.models.reward import SCORE
from accord.models.tree import Tree, common_prefix, decoder_of


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a model: weights of the layers' linear maps, of the head and of the adapters; layers and their width."""

    trunk: int
    head: int
    adapters: int
    layers: int
    width: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of a prompt and its answers, in tokens. `shared` of the prompt's are computed with another tree of the same step."""

    prompt: int
    answers: tuple[int, ...]
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Extent:
    """What some trees come to: positions forwarded, answer positions, pairs of a query and a key that it attends to."""

    positions: int
    answers: int
    pairs: int


def extent_of(trees: Sequence[Lengths]) -> Extent:
    """Add up trees: T = P - S + Σa, A = Σa, K = P(P+1)/2 - S(S+1)/2 + Σ[aP + a(a+1)/2], with prompt P of which S are shared."""
    pairs = sum(
        _causal(t.prompt) - _causal(t.shared) + sum(a * t.prompt + _causal(a) for a in t.answers) for t in trees
    )
    answers = sum(sum(t.answers) for t in trees)
    return Extent(sum(t.prompt - t.shared for t in trees) + answers, answers, pairs)


def lengths_of(trees: Sequence[Tree]) -> list[Lengths]:
    """Return the lengths of one step's trees: what all prompts begin with is the first tree's own, and the others share it."""
    prefix = common_prefix([t.prompt for t in trees]) if trees else 0
    return [Lengths(len(t.prompt), tuple(map(len, t.answers)), prefix if n else 0) for n, t in enumerate(trees)]


def training_flop(sizes: Sizes, extent: Extent, trained: Literal["lora", "full"], reference_passes: int = 0) -> float:
    """Return the operations of one forward and backward pass, with so many forward passes of the reference beside it."""
    forward = 2.0 * (sizes.trunk * extent.positions + sizes.head * extent.answers)
    attention = 4.0 * sizes.width * sizes.layers * extent.pairs
    adapters = 6.0 * sizes.adapters * extent.positions if trained == "lora" else 0.0
    passes = (2 if trained == "lora" else 3) + reference_passes
    return forward * passes + adapters + attention * (3 + reference_passes)


def sizes_of(model: nn.Module, first_layer: int = 0) -> Sizes:
    """Read the sizes off a model, from `first_layer` on: the layers below it run once before training, or never.

    The single row of a reward model's head counts as none.
    """
    decoder: Any = decoder_of(model)
    layers = list(decoder.layers)[first_layer:]
    trunk = adapters = 0
    for name, module in nn.ModuleList(layers).named_modules():
        if isinstance(module, nn.Linear):
            if "lora_" in name:
                adapters += module.in_features * module.out_features
            else:
                trunk += module.in_features * module.out_features  # of 4-bit weights the tensor holds two a number
    config = decoder.config
    # A model without attention (Mamba) has none to count.
    n_heads = getattr(config, "num_attention_heads", None) or 0
    head_size = getattr(config, "head_dim", None) or (config.hidden_size // n_heads if n_heads else 0)
    head = 0 if hasattr(model, SCORE) else inner_of(model).get_output_embeddings().weight.numel()
    return Sizes(trunk, head, adapters, len(layers), n_heads * head_size)


def first_trained_layer(model: nn.Module) -> int:
    """Return the first layer that holds a trained weight; 0 where none does."""
    layers: Any = decoder_of(model).layers
    trained = (n for n, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters()))
    return next(trained, 0)


def _causal(n: int) -> int:
    """How many pairs n positions have, each with itself and all before it."""
    return n * (n + 1) // 2
