"""What differs on a GPU, held against the plain way on the same one: attention by block, joined products."""

import random
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from test_tree import random_tree
from tiny_llama import tiny_causal_lm
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from accord.models import attention, tree
from accord.models.adapted import AdaptedProjection
from accord.models.adapters import add_lora
from accord.models.head import token_logps
from accord.models.load import LoadedModel
from accord.models.packed import packed
from accord.models.projection import Projection
from accord.models.sharing import why_apart
from accord.models.tree import answer_states, collate, decoder_of, head_weight
from accord.objectives.dpo import dpo
from accord.train.offline import TrainSettings, fit
from accord.train.preferences import answer_logps, preference_task
from accord.train.states import NOTHING_FROZEN
from accord.types import Silent

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
GPU = torch.device("cuda")


def trees(n=6, seed=0):
    rng = random.Random(seed)
    return [random_tree(rng, rng.randrange(3, 90), rng.randrange(2, 60), rng.randrange(2, 60)) for _ in range(n)]


def model_of(dtype, hidden=256):
    """Random, of 4 layers with 4 query heads on 2 key heads, and adapters that are not at zero on every map."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=280, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.06,
        bos_token_id=None, eos_token_id=1, pad_token_id=None, attn_implementation="sdpa",
    )  # fmt: skip
    model = LlamaForCausalLM(config).to(GPU, dtype).eval().requires_grad_(False)
    loaded = LoadedModel(model, None, "random", "", "", GPU)
    adapted = add_lora(loaded, 8, first_layer=0)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(p, std=0.02)
    return adapted


def states_and_gradients(model, batch):
    states = answer_states(model, batch)
    (states.float() ** 3).sum().backward()
    grads = torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return states.detach().float(), grads


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("blocks", [True, False])
def test_blocks_and_joined_products_give_what_the_plain_layers_give(blocks, dtype, tolerance, monkeypatch):
    model, batch = model_of(dtype), collate(trees()).to(GPU)
    monkeypatch.setattr(attention, "LEAST_BLOCKED_ROW", 0 if blocks else 1 << 30)
    with packed(model):
        layers = decoder_of(model).layers
        assert isinstance(layers[0].mlp.forward.gate_up, AdaptedProjection)
        found = states_and_gradients(model, batch)
    monkeypatch.setattr(tree, "by_parts", lambda *_: nullcontext())
    plain = states_and_gradients(model, batch)
    for a, b in zip(found, plain, strict=True):
        assert b.norm() > 0
        assert (a - b).norm() <= tolerance * b.norm()


def test_joined_weights_are_held_once():
    model = model_of(torch.bfloat16)
    before = torch.cuda.memory_allocated()
    mlp = decoder_of(model).layers[0].mlp
    with packed(model):
        joint = mlp.forward.gate_up.base.weight
        assert mlp.up_proj.base_layer.weight.data_ptr() == joint[mlp.up_proj.base_layer.out_features :].data_ptr()
        assert torch.cuda.memory_allocated() <= before * 1.05 + (1 << 20)


def test_log_probabilities_and_their_gradient_are_those_of_float64():
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5000, 64, generator=generator).to(GPU).requires_grad_()
    weight = torch.randn(300, 64, generator=generator).to(GPU)
    targets = torch.randint(300, (5000,), generator=generator).to(GPU)
    told = token_logps(hidden, Projection(weight), targets)
    (slope,) = torch.autograd.grad(told.logps_N.sum(), hidden)
    exact = hidden.detach().double().requires_grad_()
    logps = (exact @ weight.double().T).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)
    (wanted,) = torch.autograd.grad(logps.sum(), exact)
    torch.testing.assert_close(told.logps_N.double(), logps, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(slope.double(), wanted, atol=1e-3, rtol=1e-3)


def test_an_epoch_of_dpo_begins_at_ln_2_and_learns(tmp_path):
    model, rows = model_of(torch.bfloat16), trees(32)
    head = Projection(head_weight(model))
    with packed(model):
        reference = answer_logps(model, rows, NOTHING_FROZEN, head)
        task = preference_task(rows, NOTHING_FROZEN, head, reference, partial(dpo, beta=0.1))
        settings = TrainSettings(epochs=8, learning_rate=2e-3, rows_per_step=32)
        result = fit(model, task, settings, tmp_path, Silent(), "dpo")
    losses = [step.loss for step in result.steps]
    assert losses[0] == pytest.approx(0.6931, abs=2e-3)
    assert losses[-1] < 0.3


def test_a_model_whose_heads_are_too_small_for_blocks_is_found_to_share(monkeypatch):
    monkeypatch.setattr(attention, "LEAST_BLOCKED_ROW", 0)
    assert why_apart(tiny_causal_lm().to(GPU), trees(3)) == ""
