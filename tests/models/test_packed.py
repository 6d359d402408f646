import pytest
import torch
from torch import nn

from accord.models.adapted import AdaptedProjection
from accord.models.adapters import add_lora
from accord.models.packed import held_still, packed
from accord.models.projection import Projection, can_pack
from accord.models.tree import decoder_of


def linear(bias=True, seed=0):
    torch.manual_seed(seed)
    return nn.Linear(24, 10, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 5, 24), (300, 24)])
def test_forward_and_backward_equal_the_plain_layer(bias, shape):
    layer = linear(bias)
    x = torch.randn(shape, requires_grad=True)
    upstream = torch.randn(*shape[:-1], 10)
    plain = layer(x)
    (plain_grad,) = torch.autograd.grad((plain * upstream).sum(), [x])
    with packed(layer):
        assert isinstance(layer.forward, AdaptedProjection) or not can_pack(layer.weight)
        got = layer(x)
        (grad,) = torch.autograd.grad((got * upstream).sum(), [x])
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grad, plain_grad, atol=1e-5, rtol=1e-5)


def test_an_upstream_gradient_that_is_not_contiguous():
    layer, x = linear(), torch.randn(6, 24, requires_grad=True)
    upstream = torch.randn(10, 6).T
    (plain,) = torch.autograd.grad(layer(x), [x], upstream)
    with packed(layer):
        (got,) = torch.autograd.grad(layer(x), [x], upstream)
    torch.testing.assert_close(got, plain, atol=1e-5, rtol=1e-5)


def test_another_dtype_than_the_weights_takes_the_plain_product():
    projection = Projection(linear(bias=False).weight)
    with pytest.raises(RuntimeError, match="dtype"):
        projection.forward(torch.randn(2, 24, dtype=torch.float64))


def test_nesting_packs_once_and_the_inner_exit_changes_nothing():
    layer = linear()
    with packed(layer):
        outer = vars(layer)["forward"]
        with packed(layer):
            assert vars(layer)["forward"] is outer
        assert vars(layer)["forward"] is outer
    assert "forward" not in vars(layer)


@pytest.mark.parametrize("adapted", [False, True])
def test_what_runs_inside_a_packed_module_is_not_packed_again(adapted, tiny_model, monkeypatch):
    """A context of a part, of the whole, and of the whole again: each map is packed once, joint ones together."""
    model = add_lora(tiny_model, 4, 0) if adapted else tiny_model.model
    rows = []
    init = Projection.__init__

    def counting(self, weight, bias=None):
        rows.append(weight.shape[0])
        init(self, weight, bias)

    monkeypatch.setattr(Projection, "__init__", counting)
    layers = decoder_of(model).layers
    with packed(layers[0]):
        n_first = len(rows)
        with packed(model):
            # Of each layer queries, keys and values together, gate and up together, and two more; and the head.
            assert (n_first, len(rows)) == (4, 4 * len(layers) + 1)
            with packed(model):
                assert len(rows) == 4 * len(layers) + 1
    assert not any("forward" in vars(m) for m in model.modules())


def test_the_layer_is_restored_after_an_exception():
    layer, x = linear(), torch.randn(3, 24)
    before = layer(x)
    with pytest.raises(KeyError), packed(layer):
        raise KeyError
    assert "forward" not in vars(layer)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("trained", ["weight", "bias"])
def test_a_layer_with_anything_trained_is_left_alone(trained):
    """Its packed copy would go stale, and a bias would get no gradient."""
    layer = linear()
    getattr(layer, trained).requires_grad_()
    with packed(layer):
        layer(torch.randn(3, 24)).sum().backward()
    assert getattr(layer, trained).grad is not None


def test_a_whole_model_computes_the_same(tiny_model):
    model, ids = tiny_model.model, torch.arange(20)[None]
    before = model(ids).logits
    with packed(model):
        inside = model(ids).logits
    torch.testing.assert_close(inside, before, atol=1e-4, rtol=1e-4)
    assert torch.equal(model(ids).logits, before)


def test_trained_maps_are_packed_where_they_are_held_still():
    layer = linear().requires_grad_(True)
    x = torch.randn(3, 24)
    with torch.inference_mode(), held_still(layer), packed(layer):
        assert isinstance(layer.forward, AdaptedProjection) or not can_pack(layer.weight)
        got = layer(x)
    assert layer.weight.requires_grad
    assert layer.bias.requires_grad
    torch.testing.assert_close(got, layer(x), atol=1e-5, rtol=1e-5)
