"""Where a prompt can be shared, and what is computed where it cannot: always what each sequence alone gives."""

import pytest
import torch
from tiny_llama import tiny
from training_demo import trees
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, GraniteConfig, GraniteForCausalLM
from unshareable import SMALL, gemma, gpt_neo, mistral, qwen_next

from accord.models import sharing
from accord.models.sharing import batches, lay_out, positions, why_apart, why_undivided
from accord.models.tree import (
    Tree,
    answer_states,
    collate,
    collate_apart,
    decoder_of,
    last_states,
    lower_states,
    micro_batches_apart,
    upper_states,
)
from accord.train.states import freeze_states, frozen_in_memory
from accord.types import Silent


def llama():
    return tiny().model.eval()


def one_by_one(model, rows):
    """The state that predicts each supervised token, each sequence alone."""
    states = []
    with torch.no_grad():
        for tree in rows:
            for answer in tree.answers:
                ids = torch.tensor([[*tree.prompt, *answer]])
                hidden = decoder_of(model)(ids, use_cache=False).last_hidden_state[0]
                states.append(hidden[len(tree.prompt) - 1 : ids.shape[1] - 1])
    return torch.cat(states)


@pytest.mark.parametrize("make", [mistral, gemma, qwen_next])
def test_rows_beyond_a_models_reach_are_computed_apart(make):
    model, rows = make(), trees(7, 3)
    assert max(t.longest for t in rows) > 6
    assert why_apart(model, rows)
    with torch.no_grad():
        got = answer_states(model, lay_out(model, rows))
    torch.testing.assert_close(got, one_by_one(model, rows), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [mistral, gemma])
def test_the_tree_forward_would_be_wrong_there(make):
    """The control: what is detected does make a difference."""
    model, rows = make(), trees(7, 3)
    with torch.no_grad():
        wrong = answer_states(model, collate(rows))
    assert (wrong - one_by_one(model, rows)).abs().max() > 0.01


@pytest.mark.parametrize("make", [mistral, gemma, llama])
def test_rows_within_reach_share_their_prompt(make):
    model, rows = make(), [Tree((0, 5, 7), ((9, 1), (8, 3, 1))), Tree((0, 5), ((9, 9, 1), (4, 1)))]
    assert why_apart(model, rows) == ""
    batch = lay_out(model, rows)
    assert batch.ids_BL.shape == (1, 2 + 1 + 2 + 3 + 3 + 2)
    with torch.no_grad():
        torch.testing.assert_close(answer_states(model, batch), one_by_one(model, rows), atol=1e-5, rtol=1e-4)


class Ignores(torch.nn.Module):
    """A layer that mixes each position with the one before it in the row, whatever the mask says."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.attention_type = getattr(layer, "attention_type", "full_attention")

    def forward(self, hidden_states, *args, **more):
        return self.layer(hidden_states + torch.roll(hidden_states, 1, dims=1), *args, **more)


def test_a_model_that_only_shows_it_in_its_results_is_found_by_trial(monkeypatch):
    model, rows = llama(), trees(5, 2)
    decoder_of(model).layers[0] = Ignores(decoder_of(model).layers[0])
    assert why_apart(model, rows).startswith("computed together the first batch differs by ")
    assert lay_out(model, rows).mask_B1LL is None
    tried = []
    monkeypatch.setattr(sharing, "_by_trial", lambda *a: tried.append(a))
    lay_out(model, rows)
    assert tried == []


def test_a_reach_that_only_longer_rows_show_is_found_when_they_come():
    """GPT-Neo's local layers attend within 8 tokens, which its configuration says in words of its own."""
    torch.manual_seed(0)
    model = gpt_neo()
    short = [Tree((0, 5), ((7, 1), (8, 1)))]
    long = [Tree((0, *range(2, 14)), ((7, 9, 3, 1), (8, 1)))]
    assert why_apart(model, short) == ""
    assert why_apart(model, [*short, *long]).startswith("computed together")
    assert why_apart(model, short)


def test_the_trial_leaves_the_model_as_it_was_and_is_made_once(monkeypatch):
    model, rows = llama(), trees(5, 2)
    tried = []
    plain = sharing._by_trial
    monkeypatch.setattr(sharing, "_by_trial", lambda *a: tried.append(a) or plain(*a))
    state = torch.get_rng_state()
    for training in (True, False):
        model.train(training)
        assert why_apart(model, rows) == ""
        assert model.training is training
    assert len(tried) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_trees_apart_by_hand():
    """Prompt (5, 6) with (7, 8) and (9,); prompt (4,) with (3, 2, 1): rows 5 6 7 8, 5 6 9, 4 3 2 1."""
    batch = collate_apart([Tree((5, 6), ((7, 8), (9,))), Tree((4,), ((3, 2, 1),))])
    assert batch.ids_BL.tolist() == [[5, 6, 7, 8], [5, 6, 9, 0], [4, 3, 2, 1]]
    assert batch.real_BL.int().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch.row_N.tolist() == [0, 0, 1, 2, 2, 2]
    assert batch.predict_N.tolist() == [1, 2, 1, 0, 1, 2]
    assert batch.targets_N.tolist() == [7, 8, 9, 3, 2, 1]
    assert batch.tree_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.end_A.tolist() == [3, 2, 3]
    assert batch.some([1]).answer_N.tolist() == [0, 0, 0]


def test_batches_apart_hold_every_row_once_within_the_budget():
    """Sequences times the longest: rows of 3 answers of up to 8 tokens."""
    rows = trees(20, 3)
    split = micro_batches_apart(rows, range(20), 100)
    assert sorted(i for b in split for i in b) == list(range(20))
    assert all(len(b) * 3 * max(rows[i].longest for i in b) <= 100 or len(b) == 1 for b in split)
    assert batches(mistral(), rows, range(20), 100) == split


def test_frozen_states_are_whole_forwards_where_nothing_can_be_shared(tmp_path):
    said = []
    progress = Silent()
    progress.say = said.append
    model, rows = gemma(), trees(5, 2)
    frozen = freeze_states(model, rows, 1, [True] * 5, tmp_path, progress)
    assert frozen.first_layer == 0
    assert said == [
        "each answer is computed with its own copy of the prompt: gemma3_text attends within 6 tokens, and the longest prompt "
        f"with its answer has {max(t.longest for t in rows)}"
    ]
    batch, hidden = frozen.last_states(model, rows, [3, 1])
    torch.testing.assert_close(
        batch.predicting(hidden).detach(), one_by_one(model, [rows[3], rows[1]]), atol=1e-5, rtol=1e-4
    )
    torch.testing.assert_close(frozen.reference([2]), one_by_one(model, [rows[2]]), atol=1e-5, rtol=1e-4)


def neox():
    """Its last norm is called `final_layer_norm`."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(**{name: SMALL[name] for name in SMALL if name not in ("head_dim", "num_key_value_heads")})
    return GPTNeoXForCausalLM(config).eval()


def granite():
    """Multiplies the embeddings that it is given, be they the embeddings or not."""
    torch.manual_seed(0)
    more = {name: SMALL[name] for name in SMALL if name != "head_dim"}
    return GraniteForCausalLM(GraniteConfig(**more, embedding_multiplier=12.0)).eval()


@pytest.mark.parametrize("make", [neox, granite])
def test_a_decoder_that_does_more_than_run_its_layers_is_run_whole(make, tmp_path):
    said = []
    progress = Silent()
    progress.say = said.append
    model, rows = make(), trees(5, 2)
    assert why_apart(model, rows) == ""
    with torch.no_grad():
        batch = collate(rows)
        wrong = upper_states(model, batch, lower_states(model, batch, 1), 1)
        assert (wrong - last_states(model, batch)).abs().max() > 0.1  # the control
    frozen = freeze_states(model, rows, 1, [True] * 5, tmp_path, progress)
    assert frozen.first_layer == frozen_in_memory(model, rows, 1).first_layer == 0
    assert len(said) == 1
    assert said[0].startswith("the frozen layers are run again in each pass: ")
    assert "does more than run its layers, and in two parts differs by" in said[0]
    torch.testing.assert_close(frozen.reference([2]), one_by_one(model, [rows[2]]), atol=1e-5, rtol=1e-4)


def test_a_decoder_that_runs_in_two_parts_is_tried_once_a_layer_and_left_as_it_was(monkeypatch):
    model, rows = llama().train(), trees(5, 2)
    state = torch.get_rng_state()
    assert why_undivided(model, rows, 1) == why_undivided(model, rows, 2) == ""
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(sharing, "lower_states", None)
    assert why_undivided(model, rows, 2) == ""


def test_positions_by_hand():
    """Prompts 1 2 3 and 1 2 4 5 begin alike. One row: 1 2, then 3 and its answers of 2 and 1, then 4 5 and its 1 and 1: 2 + 4 + 4,
    none of it padding. Apart: four rows as long as the longest, 5, which hold 5 + 4 + 5 + 5 tokens.
    """
    trees = [Tree((1, 2, 3), ((7, 8), (9,))), Tree((1, 2, 4, 5), ((7,), (9,)))]
    model = tiny().model
    assert positions(model, trees) == (10, 10)
    decoder_of(model).config.layer_types = ["linear_attention"] * 4
    assert positions(model, trees) == (20, 19)
