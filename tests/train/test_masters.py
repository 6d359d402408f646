"""Weights in bf16 that are trained through fp32 masters."""

from pathlib import Path

import pytest
import torch
import training_demo as demo
from tiny_llama import tiny_causal_lm
from torch import nn

from accord.models.tree import head_weight
from accord.train.imitation import Learned
from accord.train.masters import masters_of
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings, fit
from accord.train.states import NOTHING_FROZEN
from accord.types import Silent


def problem(dtype):
    model, trees = tiny_causal_lm().to(dtype).requires_grad_(True), demo.trees(16, 1)
    return model, Mixture(trees, [0] * 16, (Learned(trees, head_weight(model)),), NOTHING_FROZEN)


def test_small_steps_add_up_in_the_masters_by_hand():
    """Below 1 the next bf16 number is 1 - 2^-8. One step of 2^-10, and two (a tie, to even), round back to 1; after three the
    master is 1 - 3/4 2^-8, which is rounded to 1 - 2^-8."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    nn.init.ones_(layer.weight)
    with masters_of(layer) as masters:
        optimizer = torch.optim.SGD(masters.parameters, lr=1.0)
        seen = []
        for _ in range(3):
            layer(torch.full((1, 1), 2**-10, dtype=torch.bfloat16)).sum().backward()
            assert layer.weight.grad is None
            optimizer.step()
            optimizer.zero_grad()
            masters.publish()
            seen.append(layer.weight.item())
    assert seen == [1.0, 1.0, 1 - 2**-8]
    assert masters.parameters[0].item() == 1 - 3 * 2**-10
    layer(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
    assert layer.weight.grad is not None  # outside the context the weights collect for themselves


def test_gradients_of_several_passes_add_up_in_fp32_by_hand():
    """256 + 1 + 1 is 258 in fp32; in bf16, whose numbers above 256 are 2 apart, 256 + 1 stays 256."""
    layer = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    with masters_of(layer) as masters:
        for x in (256.0, 1.0, 1.0):
            layer(torch.tensor([[x]], dtype=torch.bfloat16)).sum().backward()
    assert masters.parameters[0].grad.item() == 258.0


def test_weights_in_fp32_are_their_own_masters():
    layer = nn.Linear(2, 2)
    with masters_of(layer) as masters:
        assert masters.parameters == tuple(layer.parameters())


def test_memory_that_runs_out_in_the_masters_leaves_nothing_of_that_batch_behind(monkeypatch):
    """Widening the gradient 4 fails once; the next batch's gradient is 4, not 8."""
    layer, x = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16), torch.full((1, 1), 4.0, dtype=torch.bfloat16)

    def fail(tensor):
        raise RuntimeError("DefaultCPUAllocator: not enough memory")

    with masters_of(layer) as masters:
        with monkeypatch.context() as patched:
            patched.setattr(torch.Tensor, "float", fail)
            with pytest.raises(RuntimeError, match="memory"):
                layer(x).sum().backward()
        layer(x).sum().backward()
    assert masters.parameters[0].grad.item() == 4.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_weights_learn_and_a_resumed_run_gives_the_same_bits(tmp_path: Path, dtype):
    settings = TrainSettings(epochs=4, rows_per_step=8, learning_rate=3e-3, token_budget=64)
    model, task = problem(dtype)
    result = fit(model, task, settings, tmp_path / "whole", Silent(), "sft", demo.Clock())
    assert result.steps[-1].loss < 0.7 * result.steps[0].loss
    assert all(p.dtype == dtype for p in model.parameters())

    class StoppedError(Exception):
        pass

    class StopsAfter(Silent):
        def advance(self, amount, note=""):
            self.seen = getattr(self, "seen", 0) + amount
            if self.seen == 3:
                raise StoppedError

    again, task = problem(dtype)
    with pytest.raises(StoppedError):
        fit(again, task, settings, tmp_path / "cut", StopsAfter(), "sft", demo.Clock())
    another, task = problem(dtype)
    resumed = fit(another, task, settings, tmp_path / "cut", Silent(), "sft", demo.Clock())
    assert resumed.steps == result.steps
    for a, b in zip(model.parameters(), another.parameters(), strict=True):
        assert torch.equal(a, b)


def test_bf16_follows_fp32(tmp_path: Path):
    """The same run in both formats: bf16 weights with masters end where fp32 ends, up to what bf16 activations blur."""
    settings = TrainSettings(epochs=6, rows_per_step=8, learning_rate=1e-3, token_budget=64)
    losses = []
    for dtype in (torch.float32, torch.bfloat16):
        model, task = problem(dtype)
        result = fit(model, task, settings, tmp_path / str(dtype), Silent(), "sft")
        losses.append([s.loss for s in result.steps])
    assert losses[0] == pytest.approx(losses[1], rel=0.03)
