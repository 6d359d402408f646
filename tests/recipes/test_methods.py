"""Each way to train, from a fresh adapter to what is read back from the disk."""

import importlib.util
import math
import random

import pytest
import torch
from peft import PeftModel

from accord.errors import SettingsError
from accord.models.adapters import scaled
from accord.models.load import load_model
from accord.models.tree import Tree, decoder_of
from accord.recipes.reporting import machine_facts
from accord.recipes.saving import save_model
from accord.recipes.settings import AlignSettings, TrainingSettings, adapted_layers
from accord.recipes.training import make_trainee, pair_objective, train_on_pairs
from accord.types import Silent

IDS = torch.tensor([[0, 30, 31, 32, 50, 51, 1], [0, 99, 98, 97, 96, 95, 1]])


def pairs(n=8):
    rng = random.Random(3)
    return [
        Tree((0, *(rng.randrange(2, 60) for _ in range(6))), ((rng.randrange(2, 60), 1), (rng.randrange(2, 60), 5, 1)))
        for _ in range(n)
    ]


def trained(folder, out, **more):
    """Two passes of DPO over 8 pairs; returns the trainee and the losses of the steps."""
    settings = TrainingSettings(
        model=str(folder), **{"precision": "fp32", "rank": 4, "epochs": 2, "learning_rate": 1e-2, **more}
    )
    trainee = make_trainee(load_model(settings.model, settings.precision), settings)
    result = train_on_pairs(trainee, pairs(), pair_objective("dpo", beta=0.5), settings.dials(), out, Silent())
    return trainee, [step.loss for step in result.steps]


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


@pytest.mark.parametrize("first_layer", [0, 2])
@pytest.mark.parametrize("method", ["lora", "dora", "rslora"])
def test_dpo_begins_at_ln_2_learns_and_is_read_back_as_it_was(tiny_folder, tmp_path, method, first_layer):
    base = logits(load_model(str(tiny_folder), "fp32").model)
    trainee, losses = trained(tiny_folder, tmp_path, method=method, first_layer=first_layer)
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[1] < losses[0] - 0.01
    save_model(trainee, tmp_path / "model", "card", 1.0, str(tiny_folder))
    after = logits(trainee.model)
    assert not torch.allclose(after, base, atol=1e-2)
    torch.testing.assert_close(logits(load_model(str(tmp_path / "model"), "fp32").model), after, atol=1e-4, rtol=0)
    peft = PeftModel.from_pretrained(load_model(str(tiny_folder), "fp32").model, tmp_path / "model")
    torch.testing.assert_close(logits(peft), after, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["dora", "rslora"])
def test_a_strength_is_saved_as_it_was_measured(tiny_folder, tmp_path, method):
    trainee, _ = trained(tiny_folder, tmp_path, method=method)
    save_model(trainee, tmp_path / "model", "card", 0.5, str(tiny_folder))
    with scaled(trainee.model, 0.5):
        half = logits(trainee.model)
    torch.testing.assert_close(logits(load_model(str(tmp_path / "model"), "fp32").model), half, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [("all", 0, -1), ("upper", -1, -1), ("22-29", 22, 29), ("22-", 22, -1), ("0-0", 0, 0)],
)
def test_what_layers_stands_for(text, first, last):
    assert adapted_layers(text, "lora") == {"first_layer": first, "last_layer": last}


@pytest.mark.parametrize("text", ["22", "-29", "29-22", "upper three", "-1", "22-29-30", " 2-3", "2.5-3"])
def test_layers_that_cannot_be_understood_are_refused_with_the_forms_that_can(text):
    with pytest.raises(SettingsError, match=f"all, upper, a span as 22-29, or 22- for 22 and up, not '{text}'"):
        adapted_layers(text, "lora")


def test_layers_go_with_adapters_only():
    assert adapted_layers("", "full") == {}
    adapted_layers("all", "full")
    with pytest.raises(SettingsError, match="--layers 22- says where adapters sit, and --method full has none"):
        adapted_layers("22-", "full")


def test_upper_is_the_upper_three_fifths_and_a_span_below_the_last_layer_trains(tiny_folder, tmp_path):
    """Of 4 layers 0.4 * 4 = 1.6, so from the third on; layers 1 to 2 are frozen from below, and 3 runs without an adapter."""
    assert make_trainee(load_model(str(tiny_folder)), AlignSettings(first_layer=-1)).first_layer == 2
    trainee, losses = trained(tiny_folder, tmp_path, **adapted_layers("1-2", "lora"))
    assert trainee.first_layer == 1
    assert losses[1] < losses[0] - 0.01
    save_model(trainee, tmp_path / "model", "card", 1.0, str(tiny_folder))
    again = load_model(str(tmp_path / "model"), "fp32").model
    torch.testing.assert_close(logits(again), logits(trainee.model), atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_checkpointing_changes_no_step(tiny_folder, tmp_path, method):
    plain, again = (tmp_path / name for name in ("plain", "again"))
    for folder in (plain, again):
        folder.mkdir()
    one, losses = trained(tiny_folder, plain, method=method, learning_rate=1e-3)
    other, same = trained(tiny_folder, again, method=method, learning_rate=1e-3, checkpointing=True)
    assert same == losses
    assert torch.equal(logits(other.model), logits(one.model))
    assert all(layer.gradient_checkpointing for layer in decoder_of(other.model).layers)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("method", ["lora", "dora"])
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_adapters_learn_on_a_quantised_base(wide_folder, tmp_path, precision, method):
    """3 steps of DPO: they begin at ln 2, for the base is computed alike with and without a gradient; the loss falls."""
    trainee, losses = trained(
        wide_folder, tmp_path, precision=precision, method=method, epochs=3, checkpointing=True, first_layer=1
    )
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[0] > losses[1] > losses[2]
    assert machine_facts(trainee)["number format"].startswith(f"{precision} weights")
    save_model(trainee, tmp_path / "model", "card", 1.0, str(wide_folder))
    peft = PeftModel.from_pretrained(load_model(str(wide_folder), precision).model, tmp_path / "model")
    torch.testing.assert_close(logits(peft), logits(trainee.model), atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_quantised_weights_are_neither_trained_nor_published_on(precision):
    with pytest.raises(SettingsError, match=f"with method full, since 8- and 4-bit weights .* not {precision}"):
        TrainingSettings(method="full", precision=precision)
    with pytest.raises(SettingsError, match=f"precision {precision}: a round would measure"):
        AlignSettings(precision=precision).refuse_as_round()
    AlignSettings(precision="bf16").refuse_as_round()
