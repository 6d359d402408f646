"""Layers run as few large operations against transformers' own."""

import pytest
import torch
import training_demo as demo
from tiny_llama import tiny_causal_lm
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM

from accord.models.fused import GatedUnit, RootMeanSquare, RotatedAttention, fused
from accord.models.packed import packed
from accord.models.projection import can_pack
from accord.models.tree import answer_states, collate


def outcome(model, rows):
    """Last states and every trained weight's gradient."""
    model.zero_grad()
    states = answer_states(model, collate(rows))
    (states.float() ** 3).sum().backward()
    return states.detach().float(), torch.cat([p.grad.flatten() for p in demo.trained(model)])


@pytest.mark.parametrize("first_layer", [0, 2])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_states_and_gradients_are_those_of_transformers(first_layer, dtype, tolerance):
    model, rows = demo.lora(first_layer, std=0.2), demo.trees(6, 2)
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.to(dtype)
    expected = outcome(model, rows)
    with packed(model):
        kinds = {type(m.forward) for m in model.modules() if "forward" in vars(m)}
        found = outcome(model, rows)
    if dtype == torch.float32:
        assert {GatedUnit, RotatedAttention, RootMeanSquare} <= kinds
    for a, b in zip(found, expected, strict=True):
        assert b.norm() > 0.1
        assert (a - b).norm() <= tolerance * b.norm()
    assert not any("forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize("make", [lambda m: m.mlp, lambda m: m.self_attn, lambda m: m.input_layernorm])
def test_each_by_itself_with_its_input_gradient(make):
    torch.manual_seed(1)
    module = make(tiny_causal_lm().model.layers[0])
    if isinstance(getattr(module, "weight", None), nn.Parameter):
        module.weight.data.normal_()
    x, upstream = torch.randn(2, 7, 32, requires_grad=True), torch.randn(2, 7, 32)
    more = {}
    if hasattr(module, "q_proj"):
        angles = torch.randn(2, 7, 4).repeat(1, 1, 2)
        more = {"position_embeddings": (angles.cos(), angles.sin()), "attention_mask": None}

    def run(forward):
        y = forward(x, **more)
        y = y[0] if isinstance(y, tuple) else y
        return y, *torch.autograd.grad(y, x, upstream)

    for a, b in zip(run(fused(module)), run(module.forward), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_cache_grows_as_without():
    model, ids = tiny_causal_lm(), torch.arange(3, 15)[None]
    whole = model(ids).logits
    with packed(model), torch.no_grad():
        first = model(ids[:, :8], use_cache=True)
        second = model(ids[:, 8:], cache=first.cache, use_cache=True)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 5e-2)])
def test_a_model_whose_every_weight_is_trained(dtype, tolerance):
    model, rows = tiny_causal_lm(), demo.trees(6, 2)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += torch.linspace(-0.5, 0.5, parameter.numel())
    model = model.to(dtype).requires_grad_(True)
    expected = outcome(model, rows)
    with packed(model):
        kinds = {type(m.forward) for m in model.modules() if "forward" in vars(m)}
        found = outcome(model, rows)
    # Products of trained weights are joined where oneDNN multiplies them: in bf16 not on every processor.
    packs = can_pack(model.model.embed_tokens.weight)
    assert kinds == ({GatedUnit, RotatedAttention, RootMeanSquare} if packs else {RootMeanSquare})
    for a, b in zip(found, expected, strict=True):
        assert b.norm() > 0.1
        assert (a - b).norm() <= tolerance * b.norm()


def test_what_is_not_known_is_left_alone():
    config = Qwen2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    qwen = Qwen2ForCausalLM(config).eval().requires_grad_(False)
    ids = torch.arange(12)[None]
    before = qwen(ids).logits
    with packed(qwen):
        torch.testing.assert_close(qwen(ids).logits, before, atol=1e-5, rtol=1e-5)
