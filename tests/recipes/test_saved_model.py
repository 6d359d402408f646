"""What is written as a model is what was trained: trained, saved and loaded again, it says the same."""

import json
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from tiny_llama import tiny

from accord.errors import AccordError
from accord.models.load import load_model
from accord.recipes.saving import save_finished, save_model, save_weights
from accord.recipes.settings import AlignSettings
from accord.recipes.training import make_trainee, train_on_demonstrations
from accord.runs.folder import open_run
from accord.types import Demonstration, Message, Prompt, Silent

ADDED = ["<|safe|>", "<|unsafe|>"]


@pytest.fixture
def tied_folder(tmp_path):
    """A tied model whose vocabulary was grown by two control tokens, as a hub folder."""
    loaded = tiny()
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", *ADDED]})
    loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=False)
    folder = tmp_path / "tied"
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


def rows(n=5):
    messages = (Message("user", "how is the water of the harbour"),)
    return [
        Demonstration(Prompt(f"r{i}", messages, "harmful", "c", f"f{i}", "train"), f"No, the water is {i}.")
        for i in range(n)
    ]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_train_09_merge_tied_embeddings(tied_folder, tmp_path, method):
    """train-09-merge-tied-embeddings: 5 steps at rate 1e-2 on a tied model with two added tokens, saved, loaded, merged.

    An adapter never touches the two matrices; full training moves the one matrix that both are, and its config must say so.
    """
    settings = AlignSettings(
        model=str(tied_folder),
        method=method,
        first_layer=1,
        rank=2,
        rows_per_step=1,
        sft_epochs=1,
        sft_learning_rate=1e-2,
    )
    trainee = make_trainee(load_model(settings.model, "fp32"), settings)
    added = trainee.loaded.tokenizer.convert_tokens_to_ids(ADDED)
    before = trainee.loaded.model.get_input_embeddings().weight.detach()[added].clone()
    assert len(train_on_demonstrations(trainee, rows(), settings, tmp_path, Silent()).steps) == 5

    out = tmp_path / "model"
    save_model(trainee, out, "card", 1.0, str(tied_folder))
    again = load_model(str(out), "fp32")  # where bf16 is chosen, rounding would hide a wrong matrix

    ids = torch.tensor([[5, added[0], 7, added[1]]])
    with torch.no_grad():
        live, loaded = trainee.model(ids).logits, again.model(ids).logits
    torch.testing.assert_close(loaded, live, atol=1e-4, rtol=0)
    assert live.std() > 0.1
    embedding, head = again.model.get_input_embeddings().weight, again.model.get_output_embeddings().weight
    assert embedding.shape[0] == head.shape[0] == again.model.config.vocab_size == added[1] + 1
    assert torch.equal(embedding, head)
    assert again.model.config.tie_word_embeddings is True
    assert torch.equal(embedding[added], before) == (method == "lora")
    if method == "full":
        assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is True
        assert "lm_head.weight" not in load_file(out / "model.safetensors")
    else:
        assert not any("embed" in name or "lm_head" in name for name in load_file(out / "adapter_model.safetensors"))


def test_what_is_not_finite_is_not_saved(tiny_folder, tmp_path):
    """One weight of an adapter that overflowed: the model that was there stays as it was, and a server is sent nothing."""
    settings = AlignSettings(model=str(tiny_folder), rank=2)
    trainee = make_trainee(load_model(settings.model), settings)
    save_model(trainee, tmp_path / "model", "card", 1.0, str(tiny_folder))
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    name, weight = next((n, p) for n, p in trainee.model.named_parameters() if p.requires_grad)
    weight.data[0, 0] = float("inf")
    for save in (partial(save_model, card="new"), save_weights):
        with pytest.raises(AccordError, match=f"1 of .* trained weights are not finite, {name} .*--learning-rate"):
            save(trainee, tmp_path / "model", scale=1.0, base_name=str(tiny_folder))
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before


@pytest.mark.parametrize(("method", "library"), [("lora", "peft"), ("full", "transformers")])
def test_a_model_is_saved_once_and_again_where_it_is_not_whole(tiny_folder, tmp_path, method, library):
    """Its card names the library that loads it. What somebody laid beside it stays; a missing or cut file is mended."""
    settings = AlignSettings(model=str(tiny_folder), rank=2, method=method)
    trainee = make_trainee(load_model(settings.model), settings)
    stage = open_run(tmp_path / "run", {}, {}).stage("sft", {})
    out = tmp_path / "run" / "model"

    def save():
        save_finished(trainee, stage, out, str(tiny_folder), "Trained")
        return {path.name: (path.stat().st_ino, path.stat().st_size) for path in out.iterdir()}

    first = save()
    assert f"library_name: {library}\n" in (out / "README.md").read_text()
    (out / "notes.txt").write_text("mine")
    assert save().items() > first.items()
    (out / "README.md").write_text("cut")
    torn = save()
    assert {name: size for name, (_, size) in torn.items()} == {name: size for name, (_, size) in first.items()}
    (out / "README.md").unlink()
    assert save().keys() == first.keys()


def test_the_chosen_strength_is_in_the_saved_adapter(tied_folder, tmp_path):
    settings = AlignSettings(model=str(tied_folder), first_layer=1, rank=2, rows_per_step=1, sft_learning_rate=1e-2)
    trainee = make_trainee(load_model(settings.model), settings)
    train_on_demonstrations(trainee, rows(), settings, tmp_path, Silent())
    for scale in (1.0, 0.5):
        save_model(trainee, tmp_path / f"at-{scale}", "card", scale, str(tied_folder))
    ids = torch.tensor([[5, 30, 7, 31]])
    with torch.no_grad():
        whole, half = (load_model(str(tmp_path / f"at-{scale}")).model(ids).logits for scale in (1.0, 0.5))
        base = load_model(str(tied_folder)).model(ids).logits
    assert 0 < (half - base).norm() < (whole - base).norm()
