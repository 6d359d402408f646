"""What is trained on top of an adapter is saved as the model that was trained."""

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from tiny_llama import tiny

from accord.errors import ModelError
from accord.models.adapters import add_lora
from accord.models.load import base_of, load_model, load_tokenizer
from accord.models.reward import load_reward_model, score_head, with_score_head
from accord.models.stacked import save_soup
from accord.recipes.saving import save_model
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import make_trainee

IDS = torch.tensor([[5, 6, 7, 8, 9]])


def trained(loaded, seed, **more):
    """An adapter on a model, with weights that do something."""
    trainee = make_trainee(loaded, TrainingSettings(rank=4, precision="fp32", seed=seed, **more))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in trainee.model.named_parameters():
            if "lora_B" in name or ("score" in name and p.requires_grad):
                p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return trainee


def saved(trainee, folder, scale=1.0):
    save_model(trainee, folder, "", scale, trainee.loaded.folder)
    return folder


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


KINDS = [
    ({}, {}),
    ({"method": "rslora"}, {}),
    ({"first_layer": 2}, {}),
    ({}, {"first_layer": 1, "last_layer": 2}),
    ({"first_layer": 2}, {"last_layer": 1}),  # no map has both
    ({}, {"method": "rslora", "rank": 2}),
    ({"method": "dora"}, {}),
    ({}, {"method": "dora"}),
]


@pytest.mark.parametrize(("first", "second"), KINDS)
def test_an_adapter_on_an_adapter_loads_as_what_was_trained(tmp_path, tiny_folder, first, second):
    below = trained(load_model(str(tiny_folder), "fp32"), 1, **first)
    folder = saved(below, tmp_path / "first")
    second = {"rank": 4, **second}
    rank = second.pop("rank")
    loaded = load_model(str(folder), "fp32")
    above = make_trainee(loaded, TrainingSettings(rank=rank, precision="fp32", seed=2, **second))
    with torch.no_grad():
        for name, p in above.model.named_parameters():
            if "lora_B" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    right = logits(above.model)
    folder = saved(above, tmp_path / "second")
    torch.testing.assert_close(logits(load_model(str(folder), "fp32").model), right, atol=2e-4, rtol=1e-4)
    assert (right - logits(load_model(str(tmp_path / "first"), "fp32").model)).abs().max() > 0.1
    if (folder / "adapter_config.json").exists():
        assert base_of(folder) == str(tiny_folder)
        plain = AutoPeftModelForCausalLM.from_pretrained(folder)
        torch.testing.assert_close(logits(plain), right, atol=2e-4, rtol=1e-4)
    else:
        assert "dora" in (first.get("method"), second.get("method"))


def test_three_storeys_and_the_strength_of_the_last(tmp_path, tiny_folder):
    folder = str(tiny_folder)
    for storey in range(3):
        top = trained(load_model(folder, "fp32"), storey)
        folder = str(saved(top, tmp_path / str(storey), scale=0.5 if storey == 2 else 1.0))
    from accord.models.adapters import scaled

    with scaled(top.model, 0.5):
        right = logits(top.model)
    torch.testing.assert_close(logits(load_model(folder, "fp32").model), right, atol=2e-4, rtol=1e-4)


def test_a_reward_model_on_an_adapter_scores_the_same_when_it_is_loaded(tmp_path, tiny_folder):
    folder = saved(trained(load_model(str(tiny_folder), "fp32"), 1), tmp_path / "sft")
    trainee = trained(with_score_head(load_model(str(folder), "fp32")), 2)
    with torch.no_grad():
        right = trainee.model(IDS).logits
        save_model(trainee, tmp_path / "reward", "", 1.0, trainee.loaded.folder)
        loaded = load_reward_model(str(tmp_path / "reward"), "fp32")
        torch.testing.assert_close(loaded.model(IDS).logits, right, atol=2e-4, rtol=1e-4)
    assert score_head(loaded.model).weight.abs().max() > 0


def test_without_an_adapter_below_nothing_is_changed(tmp_path, tiny_folder):
    trainee = trained(load_model(str(tiny_folder), "fp32"), 1)
    assert trainee.loaded.adapter == ""
    folder = saved(trainee, tmp_path / "first")
    assert load_model(str(folder), "fp32").adapter == str(folder)
    assert add_lora(tiny(), 4, 0).peft_config["default"].rank_pattern == {}


def test_a_soup_is_the_mean_of_what_each_adds(tmp_path, tiny_folder):
    """At 0 and 1 it is either model; between, each map's weight is the weighted mean."""
    folders = [
        saved(trained(load_model(str(tiny_folder), "fp32"), seed, **more), tmp_path / str(seed))
        for seed, more in ((1, {}), (2, {"first_layer": 1, "method": "rslora"}))
    ]
    ends = [load_model(str(f), "fp32").model for f in folders]
    for share in (0.0, 0.25, 1.0):
        save_soup(folders, (1 - share, share), tmp_path / f"soup-{share}")
        load_tokenizer(str(tiny_folder)).save_pretrained(tmp_path / f"soup-{share}")
        mixed = load_model(str(tmp_path / f"soup-{share}"), "fp32").model
        for a, b, m in zip(*(model.parameters() for model in (*ends, mixed)), strict=True):
            torch.testing.assert_close(m, (1 - share) * a + share * b, atol=1e-5, rtol=1e-5)


def test_what_makes_no_soup_is_said(tmp_path, tiny_folder, wide_folder):
    one = saved(trained(load_model(str(tiny_folder), "fp32"), 1), tmp_path / "one")
    other = saved(trained(load_model(str(wide_folder), "fp32"), 1), tmp_path / "other")
    dora = saved(trained(load_model(str(tiny_folder), "fp32"), 1, method="dora"), tmp_path / "dora")
    for folders, message in (
        ((one, other), "different bases"),
        ((one, dora), "DoRA"),
        ((one, tiny_folder), "holds no adapter"),
    ):
        with pytest.raises(ModelError, match=message):
            save_soup(folders, (0.5, 0.5), tmp_path / "soup")
    assert not (tmp_path / "soup").exists()
