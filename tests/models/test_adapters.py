import re

import pytest
import torch

from accord.errors import SettingsError
from accord.models.adapters import add_lora, fold_strength, merged, n_layers, scaled

KINDS = ["lora", "dora", "rslora"]
IDS = torch.tensor([[0, 30, 31, 32, 50, 51, 1], [0, 99, 98, 97, 96, 95, 1]])


def trained_lora(loaded, rank=4, first_layer=1, **more):
    """An adapter that does something: LoRA's B begins at zero, DoRA's lengths at the base's own."""
    torch.manual_seed(7)
    model = add_lora(loaded, rank, first_layer, **more)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
            if "lora_magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def base_weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" not in name}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(tiny_model, kind, dtype):
    """Over bf16 weights too, where lengths rounded to bf16 would make a DoRA adapter another model than the base."""
    tiny_model.model.to(dtype)
    before = logits(tiny_model.model)
    assert torch.equal(logits(add_lora(tiny_model, 4, 0, kind=kind)), before)


@pytest.mark.parametrize(("rank", "scale"), [(1, 4.0), (4, 2.0), (16, 1.0)])
def test_the_scale_of_rslora_falls_with_the_root_of_the_rank(tiny_model, rank, scale):
    model = add_lora(tiny_model, rank, 0, kind="rslora")
    assert {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")} == {scale}


def test_folding_dora_by_hand(tiny_model):
    """W + B A = (3, 0, ...) + (0, 4, ...) in one row, 5 long: at a length of 10 that row is (6, 8, ...)."""
    model = add_lora(tiny_model, 1, 0, kind="dora")
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    with torch.no_grad():
        layer.weight.zero_()[0, 0] = 3.0
        layer.weight[1:, 0] = 1.0
        layer.lora_A["default"].weight.zero_()[0, 1] = 2.0
        layer.lora_B["default"].weight.zero_()[0, 0] = 2.0
        layer.lora_magnitude_vector["default"].weight.fill_(1.0)[0] = 10.0
    with merged(model):
        assert layer.weight[:2, :3].tolist() == [[6.0, 8.0, 0.0], [1.0, 0.0, 0.0]]
    assert layer.weight[0, :3].tolist() == [3.0, 0.0, 0.0]


@pytest.mark.parametrize("first_layer", [0, 1, 3])
def test_lora_sits_on_every_linear_map_of_the_chosen_layers_only(tiny_model, first_layer):
    model = add_lora(tiny_model, 4, first_layer)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    layers = {int(re.search(r"layers\.(\d+)\.", name)[1]) for name in names}
    assert layers == set(range(first_layer, 4))
    assert all("lora_" in name for name in names)
    assert len(names) == 2 * 7 * (4 - first_layer)  # A and B of q, k, v, o, gate, up, down
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    assert n_layers(model) == 4


@pytest.mark.parametrize(("first", "last", "layers"), [(0, 2, {0, 1, 2}), (1, 1, {1}), (1, 3, {1, 2, 3})])
def test_adapters_up_to_a_layer_below_the_last(tiny_model, first, last, layers):
    model = add_lora(tiny_model, 4, first, last_layer=last)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {int(re.search(r"layers\.(\d+)\.", name)[1]) for name in names} == layers


@pytest.mark.parametrize(("first", "last"), [(-1, -1), (4, -1), (100, -1), (0, 4), (2, 1)])
def test_a_layer_that_the_model_lacks_is_refused(tiny_model, first, last):
    with pytest.raises(SettingsError, match=f"layers {first} to .* cannot be adapted: the model has layers 0 to 3"):
        add_lora(tiny_model, 4, first, last_layer=last)


def test_the_adapter_of_a_bf16_model_is_fp32(tiny_model):
    tiny_model.model.bfloat16()
    model = add_lora(tiny_model, 4, 0)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize(("alpha", "expected"), [(None, 1.0), (8.0, 2.0)])
def test_the_scaling_is_alpha_over_rank(tiny_model, alpha, expected):
    model = add_lora(tiny_model, 4, 0, alpha)
    assert {m.scaling["default"] for m in model.modules() if hasattr(m, "lora_A")} == {expected}


@pytest.mark.parametrize("kind", KINDS)
def test_scaled_0_is_the_base_and_1_the_trained_model(tiny_model, kind):
    base = logits(tiny_model.model)
    model = trained_lora(tiny_model, kind=kind)
    trained = logits(model)
    assert not torch.allclose(trained, base, atol=0.1)
    with scaled(model, 0):
        assert torch.equal(logits(model), base)
    with scaled(model, 1):
        assert torch.equal(logits(model), trained)
    assert torch.equal(logits(model), trained)


def test_scaled_nests_by_multiplying_and_is_restored_after_an_exception(tiny_model):
    model = trained_lora(tiny_model)
    trained = logits(model)
    with scaled(model, 0.5):
        half = logits(model)
        with scaled(model, 2):
            assert torch.equal(logits(model), trained)
        assert torch.equal(logits(model), half)
    with pytest.raises(KeyError), scaled(model, 0):
        raise KeyError
    assert torch.equal(logits(model), trained)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_equals_the_adapters_forward_and_restores_the_same_bits(tiny_model, kind):
    model = trained_lora(tiny_model, kind=kind)
    before, trained = base_weights(model), logits(model)
    with merged(model):
        torch.testing.assert_close(logits(model), trained, atol=1e-4, rtol=1e-4)
        assert any(not torch.equal(w, before[name]) for name, w in base_weights(model).items())
    after = base_weights(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(logits(model), trained)


@pytest.mark.parametrize("kind", KINDS)
def test_merging_half_an_adapter(tiny_model, kind):
    model = trained_lora(tiny_model, kind=kind)
    with scaled(model, 0.5):
        half = logits(model)
        with merged(model):
            torch.testing.assert_close(logits(model), half, atol=1e-4, rtol=1e-4)


def test_merging_nests_and_survives_an_exception(tiny_model):
    model = trained_lora(tiny_model)
    before, trained = base_weights(model), logits(model)
    with merged(model), merged(model):
        torch.testing.assert_close(logits(model), trained, atol=1e-4, rtol=1e-4)
    with pytest.raises(KeyError), merged(model), merged(model):
        raise KeyError
    assert all(torch.equal(w, before[name]) for name, w in base_weights(model).items())
    assert torch.equal(logits(model), trained)


def test_a_merge_that_fails_half_way_is_undone(tiny_model, monkeypatch):
    model = trained_lora(tiny_model)
    before, trained = base_weights(model), logits(model)
    last = [m for m in model.modules() if hasattr(m, "get_delta_weight")][-1]

    def out_of_memory(_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(last, "get_delta_weight", out_of_memory)
    with pytest.raises(RuntimeError, match="out of memory"), merged(model):
        pass
    monkeypatch.undo()
    assert all(torch.equal(w, before[name]) for name, w in base_weights(model).items())
    assert torch.equal(logits(model), trained)


def test_a_model_without_adapters_is_left_alone(tiny_model):
    before = logits(tiny_model.model)
    with merged(tiny_model.model), scaled(tiny_model.model, 0):
        assert torch.equal(logits(tiny_model.model), before)


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_a_strength_that_is_folded_in_is_what_scaled_does_for_a_while(tiny_model, kind):
    model = trained_lora(tiny_model, kind=kind)
    before = logits(model)
    with scaled(model, 1.25):
        for_a_while = logits(model)
    fold_strength(model, 1.25)
    torch.testing.assert_close(logits(model), for_a_while)
    assert not torch.allclose(for_a_while, before)
