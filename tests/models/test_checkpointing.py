from contextlib import suppress

import pytest
import torch
import training_demo as demo
from tiny_llama import tiny_causal_lm
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from accord.errors import ModelError
from accord.models import attention
from accord.models.checkpointing import recompute_layers
from accord.models.head import token_logps
from accord.models.packed import packed
from accord.models.tree import collate, decoder_of, head_weight, last_states, lower_states, upper_states
from accord.train import offline
from accord.types import Silent


def model_of(first_layer):
    """Adapters from a layer on that do something; 'full': every weight is trained."""
    if first_layer == "full":
        return tiny_causal_lm(seed=1).requires_grad_(True).train()
    return demo.lora(first_layer, std=0.2).train()


def loss_and_gradients(model, first_layer, rows):
    """A loss over two answers to each shared prompt, its gradients, and the bytes that are kept for the backward pass."""
    n_bytes = 0

    def pack(tensor):
        nonlocal n_bytes
        n_bytes += tensor.nbytes
        return tensor

    batch = collate(rows)
    with packed(model):
        entering = lower_states(model, batch, first_layer) if first_layer in (1, 2, 3) else None
        with saved_tensors_hooks(pack, lambda x: x):
            hidden = (
                last_states(model, batch) if entering is None else upper_states(model, batch, entering, first_layer)
            )
            loss = token_logps(batch.predicting(hidden), head_weight(model), batch.targets_N).logps_N.square().mean()
        loss.backward()
    return loss.item(), [p.grad for p in model.parameters() if p.requires_grad], n_bytes


@pytest.mark.parametrize("first_layer", [0, 2, "full"])
def test_losses_and_gradients_are_the_same_bits_and_less_is_kept(first_layer):
    rows = demo.trees(12, 2)
    plain = loss_and_gradients(model_of(first_layer), first_layer, rows)
    model = model_of(first_layer)
    recompute_layers(model)
    again = loss_and_gradients(model, first_layer, rows)
    assert again[0] == plain[0]
    assert all(torch.equal(a, b) for a, b in zip(again[1], plain[1], strict=True))
    assert max(g.abs().max().item() for g in again[1]) > 0.01
    assert again[2] < plain[2] / 3
    assert decoder_of(model).config._attn_implementation == "sdpa"


def test_without_the_layout_a_layer_is_computed_by_another_implementation():
    """The control of the test above: torch finds other tensors than the forward pass kept."""
    model = model_of(0)
    recompute_layers(model)
    for layer in decoder_of(model).layers:
        layer._gradient_checkpointing_func = lambda *args: checkpoint(*args, use_reentrant=False)
    with pytest.raises(torch.utils.checkpoint.CheckpointError):
        loss_and_gradients(model, 0, demo.trees(12, 2))


def test_attention_is_restored_as_often_as_a_graph_is_run_backward_and_after_an_exception():
    config = decoder_of(tiny_causal_lm()).config
    layout = attention._InStacks(torch.zeros(1), (config,), ())
    with attention._Attending(layout):
        _, again = attention.attend_alike()
        assert config._attn_implementation == attention.NAME
    seen = []
    for _ in range(2):
        with suppress(KeyError), again:
            seen.append((attention._layout.get(), config._attn_implementation))
            raise KeyError
        assert config._attn_implementation == "sdpa"
        assert attention._layout.get() is None
    assert seen == [(layout, attention.NAME)] * 2


@pytest.mark.parametrize("first_layer", [0, 2])
def test_a_training_takes_the_same_steps(tmp_path, first_layer):
    def train(folder, checkpointing):
        folder.mkdir()
        model, task = demo.dpo_problem(folder, first_layer=first_layer)
        if checkpointing:
            recompute_layers(model)
        settings = offline.TrainSettings(epochs=2, rows_per_step=8, token_budget=64)
        return demo.bits(model, offline.fit(model, task, settings, folder, Silent(), "dpo"))

    assert train(tmp_path / "plain", False) == train(tmp_path / "again", True)


def test_layers_that_are_not_transformers_own_are_refused(tiny_model):
    decoder_of(tiny_model.model).layers[2] = nn.Linear(32, 32)
    with pytest.raises(ModelError, match="Linear cannot be computed again; leave out --checkpointing"):
        recompute_layers(tiny_model.model)
