import json

import pytest
import torch
from command_line import Forked
from safetensors.torch import load_file, save_file
from tiny_llama import save, tiny
from torch import nn
from transformers import AutoModelForSequenceClassification

from accord.errors import ModelError
from accord.models.adapters import add_lora
from accord.models.load import load_model
from accord.models.reward import (
    end_scores,
    load_reward_model,
    reward_tokenizer,
    score_answers,
    score_head,
    with_score_head,
)
from accord.models.tree import Tree, collate

ROWS = [
    Tree((0, 9, 8, 7), ((5, 6, 1), (4, 3, 2, 9, 1))),
    Tree((0, 9), ((7, 1), (5, 5, 5, 5, 5, 5, 5, 1))),
    Tree((0, 3, 4, 5, 6, 7, 8, 9, 10, 11), ((2, 1), (12, 1))),
]


def scored(std=0.3, lora=False):
    """The tiny model under a head that says something; with adapters that do something, where asked."""
    loaded = with_score_head(tiny())
    torch.manual_seed(3)
    nn.init.normal_(loaded.model.score.weight, std=std)
    if not lora:
        return loaded, loaded.model
    model = add_lora(loaded, 4, 2)
    with torch.no_grad():
        score_head(model).weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(3)) * std)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return loaded, model.eval()


def stored(folder, lora):
    loaded, model = scored(lora=lora)
    base = save(tiny(), folder / "base")
    if lora:
        model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder / "reward")
    reward_tokenizer(loaded.model, loaded.tokenizer).save_pretrained(folder / "reward")
    return folder / "reward", torch.stack(score_answers(model, ROWS))


def test_a_new_head_says_zero_of_everything_and_shares_the_layers(tiny_model):
    loaded = with_score_head(tiny_model)
    assert torch.stack(score_answers(loaded.model, ROWS)).tolist() == [[0.0, 0.0]] * 3
    assert loaded.model.model is tiny_model.model.model


def test_train_11_reward_model_score_position():
    """train-11-reward-model-score-position. A score of ids[i] / 10 + i / 100 at array position i, read at the last own token.

    Row [10, 11, 2], in company of a longer answer: 2 / 10 + 2 / 100 = 0.22, not 1.11 (one early), not a neighbour's. The end
    token's id is also the padding's: nothing is found by id. A second row stands further right in the same array, and is read
    there: position 7 of the array holds its last token 2, so 0.2 + 0.07.
    """
    batch = collate([Tree((10, 11), ((2,),)), Tree((10, 12), ((13, 14, 2),))])
    assert batch.ids_BL.tolist() == [[10, 12, 13, 14, 2, 11, 2]] or batch.ids_BL.tolist() == [
        [10, 11, 2, 12, 13, 14, 2]
    ]
    position_BL = torch.arange(batch.ids_BL.shape[1]).expand_as(batch.ids_BL)
    hidden_BLD = torch.stack([batch.ids_BL.float(), position_BL.float()], -1)
    head = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.1, 0.01]]))
    places = batch.end_A.tolist()
    assert [batch.ids_BL[0, p].item() for p in places] == [2, 2]
    assert end_scores(head, batch, hidden_BLD).tolist() == pytest.approx([0.2 + p / 100 for p in places])


@pytest.mark.parametrize("lora", [False, True])
def test_a_score_is_the_same_alone_in_company_and_under_padding_of_either_side(lora):
    _, model = scored(lora=lora)
    together = torch.stack(score_answers(model, ROWS))
    assert together.abs().min() > 1e-3
    alone = torch.stack([score_answers(model, [row])[0] for row in ROWS])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    apart = [[score_answers(model, [Tree(r.prompt, (a,))])[0].item() for a in r.answers] for r in ROWS]
    torch.testing.assert_close(together, torch.tensor(apart), atol=1e-4, rtol=0)
    # Transformers' own forward, padded right and left, with the padding's id that the model names.
    pad = (model.get_base_model() if lora else model).config.pad_token_id
    assert pad != 1
    flat = [[*r.prompt, *a] for r in ROWS for a in r.answers]
    width = max(map(len, flat))
    for left in (False, True):
        ids = torch.tensor([[pad] * (width - len(x)) * left + x + [pad] * (width - len(x)) * (not left) for x in flat])
        mask = torch.tensor(
            [[0] * (width - len(x)) * left + [1] * len(x) + [0] * (width - len(x)) * (not left) for x in flat]
        )
        with torch.no_grad():
            theirs = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)).logits
        torch.testing.assert_close(together.flatten(), theirs.flatten(), atol=1e-4, rtol=0)


def print_scores(folder):
    print(json.dumps(torch.stack(score_answers(load_reward_model(folder, "fp32").model, ROWS)).tolist()))


@pytest.mark.parametrize("lora", [False, True])
def test_saved_and_loaded_in_a_new_process_it_scores_the_same(tmp_path, lora):
    folder, before = stored(tmp_path, lora)
    done = Forked(print_scores, folder).wait(300)
    assert done.returncode == 0, done.stderr
    # An adapter is folded into the weights when it is loaded, which rounds. A whole model's weights are mapped from their file,
    # where they lie at other addresses; on some processors a product's last bit depends on that.
    torch.testing.assert_close(
        torch.tensor(json.loads(done.stdout.splitlines()[-1])), before, atol=1e-5 if lora else 5e-7, rtol=0
    )


def test_a_whole_reward_model_is_what_transformers_reads(tmp_path):
    folder, before = stored(tmp_path, lora=False)
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = [theirs(input_ids=torch.tensor([[*r.prompt, *a]])).logits.item() for r in ROWS for a in r.answers]
    assert logits == pytest.approx(before.flatten().tolist(), abs=1e-5)


@pytest.mark.parametrize("lora", [False, True])
def test_a_missing_head_is_an_error_never_a_fresh_one(tmp_path, lora):
    folder, _ = stored(tmp_path, lora)
    (path,) = folder.glob("*.safetensors")
    tensors = {name: value for name, value in load_file(path).items() if "score" not in name}
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelError, match="holds no head that gives a score"):
        load_reward_model(str(folder))


def test_a_language_model_is_no_reward_model(tiny_folder):
    with pytest.raises(ModelError, match="accord train reward"):
        load_reward_model(str(tiny_folder))


def test_a_classifier_of_three_classes_is_no_reward_model(tmp_path):
    loaded = with_score_head(tiny())
    loaded.model.score = nn.Linear(32, 3, bias=False)
    loaded.model.config.num_labels = 3
    save(loaded, tmp_path / "three")
    with pytest.raises(ModelError, match="gives 3 numbers an answer"):
        load_reward_model(str(tmp_path / "three"))


def test_the_padding_of_a_saved_tokenizer_ends_no_answer():
    loaded = with_score_head(tiny())
    padded = reward_tokenizer(loaded.model, loaded.tokenizer)
    assert padded.pad_token_id == loaded.model.config.pad_token_id != loaded.tokenizer.eos_token_id
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id  # what was loaded is as it was


def test_the_language_model_is_still_one_after_its_layers_were_lent(tiny_folder):
    loaded = load_model(str(tiny_folder), "fp32")
    ids = torch.tensor([[0, 5, 6]])
    before = loaded.model(ids).logits
    with_score_head(loaded)
    assert torch.equal(loaded.model(ids).logits, before)
