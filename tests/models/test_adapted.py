"""A LoRA layer as one product against PEFT's own, and against numbers derived by hand."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from accord.models.adapted import AdaptedProjection, can_adapt
from accord.models.adapters import scaled
from accord.models.packed import packed


class OneMap(nn.Module):
    """A model of one linear map, as PEFT can wrap it."""

    def __init__(self, bias):
        super().__init__()
        self.proj = nn.Linear(24, 10, bias=bias)

    def forward(self, x):
        return self.proj(x)


def adapted(bias=True, **options):
    torch.manual_seed(0)
    model = get_peft_model(OneMap(bias), LoraConfig(r=4, lora_alpha=6, target_modules=["proj"], **options))
    layer = model.base_model.model.proj
    if "default" in layer.lora_B:
        nn.init.normal_(layer.lora_B["default"].weight)
    return model, layer


def results(model, layer, x, upstream):
    x = x.clone().requires_grad_(x.requires_grad)
    y = model(x)
    weights = [layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    wanted = [*weights, x] if x.requires_grad else weights
    return [y, *torch.autograd.grad((y * upstream).sum(), wanted)]


@pytest.mark.parametrize("factor", [1.0, 0.3])
@pytest.mark.parametrize("needs_input_grad", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (2, 5, 24), (300, 24)])
def test_output_and_every_gradient_equal_pefts(shape, bias, needs_input_grad, factor):
    model, layer = adapted(bias)
    x = torch.randn(shape).requires_grad_(needs_input_grad)
    upstream = torch.randn(*shape[:-1], 10)
    with scaled(model, factor):
        expected = results(model, layer, x, upstream)
        with packed(model):
            assert isinstance(layer.forward, AdaptedProjection)
            found = results(model, layer, x, upstream)
    assert len(found) == len(expected) == 3 + needs_input_grad
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_numbers_by_hand():
    """W = 1, A = 2, B = 3, s = 0.5, x = 4, g = 5: y = 4 + 0.5*8*3 = 16, dx = 5 + 0.5*5*3*2 = 20, dA = 0.5*15*4 = 30, dB = 20."""
    model, layer = adapted(bias=False)
    layer.scaling["default"] = 0.5
    values = {
        layer.get_base_layer().weight: 1.0,
        layer.lora_A["default"].weight: 2.0,
        layer.lora_B["default"].weight: 3.0,
    }
    with torch.no_grad():
        for weight, value in values.items():
            weight.zero_()[0, 0] = value
    x, upstream = torch.zeros(1, 24, requires_grad=True), torch.zeros(1, 10)
    with torch.no_grad():
        x[0, 0], upstream[0, 0] = 4.0, 5.0
    with packed(model):
        y, da, db, dx = results(model, layer, x, upstream)
    assert [t[0, 0].item() for t in (y, dx, da, db)] == [16.0, 20.0, 30.0, 20.0]


def test_bf16_multiplies_in_bf16_and_keeps_fp32_gradients():
    model, layer = adapted()
    layer.get_base_layer().to(torch.bfloat16)
    with torch.no_grad():
        x = torch.randn(40, 24).to(torch.bfloat16)
    upstream = torch.randn(40, 10)
    expected = results(model, layer, x, upstream)
    with packed(model):
        found = results(model, layer, x, upstream)
    assert found[0].dtype == torch.bfloat16
    assert {g.dtype for g in found[1:]} == {torch.float32}
    for a, b in zip(found, expected, strict=True):
        assert (a.float() - b.float()).norm() < 0.02 * b.float().norm()


def test_disabled_and_merged_layers_are_the_base_alone():
    model, layer = adapted()
    x = torch.randn(3, 24)
    base = layer.get_base_layer()(x)
    with scaled(model, 0.0), packed(model):
        torch.testing.assert_close(model(x), base)
    layer.merged_adapters = ["default"]
    with packed(model):
        torch.testing.assert_close(model(x), base)


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"lora_bias": True}, {"use_dora": True}], ids=str)
def test_other_kinds_of_adapters_stay_with_peft(options):
    model, layer = adapted(**options)
    assert not can_adapt([layer])
    x = torch.randn(3, 24)
    model.eval()
    expected = model(x)
    with packed(model):
        assert "forward" not in vars(layer)
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_the_layer_is_peft_again_afterwards_and_nesting_changes_nothing():
    model, layer = adapted()
    with packed(model):
        outer = vars(layer)["forward"]
        with packed(model):
            assert vars(layer)["forward"] is outer
        assert vars(layer)["forward"] is outer
    assert "forward" not in vars(layer)
    assert "forward" not in vars(layer.get_base_layer())


class TwoMaps(nn.Module):
    """Two maps of one input; PEFT adapts those that are asked for."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(24, 10), nn.Linear(24, 6)

    def forward(self, x):
        return torch.cat([self.one(x), self.two(x)], -1)


@pytest.mark.parametrize("adapted_names", [["one", "two"], ["two"]], ids=" and ".join)
def test_layers_of_one_input_are_one_product(adapted_names):
    torch.manual_seed(0)
    model = get_peft_model(TwoMaps(), LoraConfig(r=4, lora_alpha=6, target_modules=adapted_names))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    inner = model.base_model.model
    x, upstream = torch.randn(2, 5, 24, requires_grad=True), torch.randn(2, 5, 16)
    wanted = [x, *(p for p in model.parameters() if p.requires_grad)]
    expected = model(x)
    together = AdaptedProjection([inner.one, inner.two])
    found = together(x)
    assert together.widths == [10, 6]
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    for a, b in zip(
        torch.autograd.grad(found, wanted, upstream), torch.autograd.grad(expected, wanted, upstream), strict=True
    ):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_layers_of_different_inputs_or_with_a_trained_weight_are_not_one_product():
    def frozen(n_in, bias=True):
        return nn.Linear(n_in, 5, bias=bias).requires_grad_(False)

    assert can_adapt([frozen(24), frozen(24)])
    assert not can_adapt([frozen(24), frozen(16)])
    assert not can_adapt([frozen(24), frozen(24, bias=False)])
    assert not can_adapt([frozen(24), nn.Linear(24, 5)])
