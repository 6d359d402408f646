import pytest
from tiny_llama import tiny
from transformers import MambaConfig, MambaForCausalLM

from accord.models.adapters import add_lora
from accord.models.reward import with_score_head
from accord.models.tree import Tree
from accord.models.work import (
    Extent,
    Lengths,
    Sizes,
    extent_of,
    first_trained_layer,
    lengths_of,
    sizes_of,
    training_flop,
)

# One layer of width 2 (one head), 10 weights in its maps, 12 in the head, 3 in the adapters.
SMALL = Sizes(trunk=10, head=12, adapters=3, layers=1, width=2)


def test_pairs_by_hand():
    """Prompt of 3, answers of 2 and 1.

    Prompt: 1 + 2 + 3 = 6. First answer's tokens see 4 and 5 keys, the second's 4, never each other: 13. K = 19.
    """
    assert extent_of([Lengths(3, (2, 1))]) == Extent(positions=6, answers=3, pairs=19)


def test_a_shared_beginning_is_computed_once_and_seen_by_all():
    """Two prompts of 3 that begin with the same 2 tokens, an answer of 1 each.

    First: 6 + 4 = 10 pairs. Of the second's prompt only the third token is computed, which sees 3 keys: 3 + 4 = 7.
    """
    trees = [Tree((7, 8, 1), ((5,),)), Tree((7, 8, 2), ((6,),))]
    assert lengths_of(trees) == [Lengths(3, (1,)), Lengths(3, (1,), shared=2)]
    assert extent_of(lengths_of(trees)) == Extent(positions=6, answers=2, pairs=17)


def test_pairs_are_those_of_the_mask():
    tree = Tree(tuple(range(5)), ((1, 2, 3), (4, 5), (6,)))
    branch = [0] * 5 + [1] * 3 + [2] * 2 + [3]
    seen = sum(branch[key] in (0, branch[query]) for query in range(len(branch)) for key in range(query + 1))
    assert extent_of(lengths_of([tree])).pairs == seen


@pytest.mark.parametrize(
    ("trained", "reference_passes", "expected"),
    [
        # T = 6, A = 3, K = 19: 2NT + 2HA = 120 + 72 = 192, 6ΛT = 108, 4hLK = 152.
        ("lora", 0, 192 * 2 + 108 + 152 * 3),
        ("lora", 1, 192 * 3 + 108 + 152 * 4),
        ("full", 0, 192 * 3 + 152 * 3),
        ("full", 1, 192 * 4 + 152 * 4),
    ],
)
def test_flop_by_hand(trained, reference_passes, expected):
    assert training_flop(SMALL, Extent(6, 3, 19), trained, reference_passes) == expected


def test_a_reward_model_has_no_head_to_speak_of():
    """4NT + 6ΛT + 12hLK = 240 + 108 + 456."""
    reward = Sizes(trunk=10, head=0, adapters=3, layers=1, width=2)
    assert training_flop(reward, Extent(6, 3, 19), "lora") == 804


def test_a_token_of_plain_fine_tuning():
    """A sequence of S = 1000, a fifth of it supervised: a token needs 4N + 6Λ + 4Hf + 6hL(S + 1)."""
    extent = extent_of([Lengths(800, (200,))])
    expected = 4 * 10 + 6 * 3 + 4 * 12 * 0.2 + 6 * 2 * 1001
    assert training_flop(SMALL, extent, "lora") / 1000 == pytest.approx(expected)


def test_sizes_of_a_small_model(tiny_model):
    """Hidden 32, middle 64, 4 heads of 8 on 2 of keys and values, 4 layers, 280 tokens.

    A layer: q and o 32x32 each, k and v 32x16 each, gate, up and down 32x64 each: 2048 + 1024 + 6144 = 9216.
    LoRA of rank 2: 2 (32+32) twice, 2 (32+16) twice, 2 (32+64) three times: 256 + 192 + 576 = 1024.
    """
    vocabulary = len(tiny_model.tokenizer)
    assert sizes_of(tiny_model.model) == Sizes(4 * 9216, vocabulary * 32, 0, 4, 32)
    adapted = add_lora(tiny_model, rank=2, first_layer=0)
    assert sizes_of(adapted) == Sizes(4 * 9216, vocabulary * 32, 4 * 1024, 4, 32)
    assert sizes_of(adapted, first_layer=1) == Sizes(3 * 9216, vocabulary * 32, 3 * 1024, 3, 32)


def test_sizes_of_a_reward_model(tiny_model):
    adapted = add_lora(with_score_head(tiny_model), rank=2, first_layer=0)
    assert sizes_of(adapted) == Sizes(4 * 9216, 0, 4 * 1024, 4, 32)


def test_the_starters_pair():
    """The starter (N = 30 x 3,538,944; H = 49,152 x 576; Λ = 30 x 162,816 at rank 16), a prompt of 149, answers of 42 and 52.

    T = 243, A = 94, K = 149*150/2 + 42*149 + 42*43/2 + 52*149 + 52*53/2 = 11175 + 6258 + 903 + 7748 + 1378 = 27462.
    """
    sizes = Sizes(106_168_320, 28_311_552, 4_884_480, 30, 576)
    extent = extent_of([Lengths(149, (42, 52))])
    assert extent == Extent(243, 94, 27_462)
    needed = 3 * (2 * 106_168_320 * 243 + 2 * 28_311_552 * 94) + 6 * 4_884_480 * 243 + 4 * 4 * 576 * 30 * 27_462
    assert training_flop(sizes, extent, "lora", reference_passes=1) == needed
    assert needed == pytest.approx(185e9, rel=0.01)


def test_a_model_without_attention_has_none_to_count():
    model = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=4))
    sizes = sizes_of(model)
    assert (sizes.width, sizes.layers) == (0, 2)
    assert sizes.trunk > 0


def test_the_first_trained_layer():
    loaded = tiny()
    assert first_trained_layer(loaded.model) == 0
    assert first_trained_layer(add_lora(loaded, 2, 3)) == 3
