import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import tiny, tiny_causal_lm
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from accord.models.adapters import add_lora
from accord.models.head import token_logps
from accord.models.tree import (
    Tree,
    answer_states,
    collate,
    decoder_of,
    head_weight,
    lower_states,
    micro_batches,
    upper_states,
)

MODEL = tiny_causal_lm()


def random_tree(rng, n_prompt, *n_answers):
    def ids(n):
        return tuple(rng.randrange(280) for _ in range(n))

    return Tree(ids(n_prompt), tuple(ids(n) for n in n_answers))


def tree_logps(model, trees):
    """Log-probabilities of every answer's tokens, a list an answer, through the shared forward."""
    batch = collate(trees)
    logps_N = token_logps(answer_states(model, batch), head_weight(model), batch.targets_N).logps_N
    return list(logps_N.split([len(a) for t in trees for a in t.answers]))


def plain_logps(model, tree):
    """The same, each answer in a row of its own through the whole model."""
    parts = []
    for answer in tree.answers:
        logits = model(torch.tensor([[*tree.prompt, *answer]])).logits[0, len(tree.prompt) - 1 : -1]
        parts.append(logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1))
    return parts


def close(got, expected, atol=1e-4):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, atol=atol, rtol=0)


SHAPES = st.lists(
    st.tuples(st.integers(1, 12), st.lists(st.integers(1, 9), min_size=1, max_size=3)), min_size=1, max_size=4
)


@settings(max_examples=40)
@given(shapes=SHAPES, seed=st.integers(0, 999))
def test_the_tree_forward_equals_a_plain_forward_of_each_answer(shapes, seed):
    """Whatever else is in the row or in the batch, and however much padding that brings."""
    rng = random.Random(seed)
    trees = [random_tree(rng, n, *answers) for n, answers in shapes]
    with torch.no_grad():
        close(tree_logps(MODEL, trees), [p for t in trees for p in plain_logps(MODEL, t)])


def test_padding_and_the_rest_of_the_batch_change_nothing():
    rng = random.Random(1)
    tree, long, short = random_tree(rng, 5, 4, 3), random_tree(rng, 30, 20), random_tree(rng, 1, 1)
    with torch.no_grad():
        alone = tree_logps(MODEL, [tree])
        close(tree_logps(MODEL, [tree, long])[:2], alone, 1e-5)
        close(tree_logps(MODEL, [short, tree, tree, long])[3:5], alone, 1e-5)


@pytest.mark.parametrize("changed", [0, 1])
@pytest.mark.parametrize("length", [4, 11])
def test_sibling_answers_do_not_see_each_other(changed, length):
    rng = random.Random(2)
    tree = random_tree(rng, 6, 4, 4)
    other = 1 - changed
    answers = list(tree.answers)
    answers[changed] = tuple(rng.randrange(280) for _ in range(length))
    with torch.no_grad():
        before, after = tree_logps(MODEL, [tree]), tree_logps(MODEL, [Tree(tree.prompt, tuple(answers))])
    torch.testing.assert_close(after[other], before[other], atol=1e-5, rtol=0)
    assert not torch.allclose(after[changed][:4], before[changed], atol=1e-2)


def test_an_answer_sees_the_whole_prompt():
    """The control of the test above: change the prompt's first token and every later log-probability moves."""
    tree = random_tree(random.Random(3), 6, 4, 4)
    with torch.no_grad():
        before = torch.cat(tree_logps(MODEL, [tree]))
        after = torch.cat(tree_logps(MODEL, [Tree(((tree.prompt[0] + 1) % 280, *tree.prompt[1:]), tree.answers)]))
    assert bool(((after - before).abs() > 1e-4).all())


def test_equal_siblings_get_equal_logps():
    tree = random_tree(random.Random(4), 6, 5)
    with torch.no_grad():
        first, second = tree_logps(MODEL, [Tree(tree.prompt, tree.answers * 2)])
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


@pytest.mark.parametrize("first_layer", [1, 2, 3])
def test_lower_and_upper_layers_in_turn_equal_the_whole(first_layer):
    rng = random.Random(5)
    batch = collate([random_tree(rng, 7, 4, 2), random_tree(rng, 3, 9)])
    with torch.no_grad():
        whole = answer_states(MODEL, batch)
        parted = batch.predicting(upper_states(MODEL, batch, lower_states(MODEL, batch, first_layer), first_layer))
    torch.testing.assert_close(parted, whole, atol=1e-5, rtol=0)
    assert len(decoder_of(MODEL).layers) == 4  # the model itself is as it was


@pytest.mark.parametrize("first_layer", [1, 2, 3])
def test_lower_and_upper_layers_where_the_layers_are_of_two_kinds(first_layer):
    """Gemma 3: every other layer with another rotary base here, looked up by the layer's place in the stack."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=280, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.2, pad_token_id=None,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).float().eval()
    tree = random_tree(random.Random(5), 7, 4, 2)
    batch = collate([tree])
    with torch.no_grad():
        close(tree_logps(model, [tree]), plain_logps(model, tree))
        whole = answer_states(model, batch)
        parted = batch.predicting(upper_states(model, batch, lower_states(model, batch, first_layer), first_layer))
    torch.testing.assert_close(parted, whole, atol=1e-5, rtol=0)
    assert model.config.layer_types == ["sliding_attention", "full_attention"] * 2


def lora():
    torch.manual_seed(6)
    model = add_lora(tiny(), 4, 2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return model


def test_the_gradient_of_shared_prompts_equals_the_plain_one():
    """Also from the middle on: the frozen lower layers carry no gradient that anyone needs."""
    rng = random.Random(6)
    trees = [random_tree(rng, 7, 4, 2), random_tree(rng, 3, 5, 5)]
    weights = torch.randn(16, generator=torch.Generator().manual_seed(6))
    model = lora()
    trained = [p for p in model.parameters() if p.requires_grad]

    batch = collate(trees)
    hidden = batch.predicting(upper_states(model, batch, lower_states(model, batch, 2), 2))
    upper = token_logps(hidden, head_weight(model), batch.targets_N).logps_N
    expected = torch.autograd.grad(
        (torch.cat([p for t in trees for p in plain_logps(model, t)]) * weights).sum(), trained
    )
    for logps in (torch.cat(tree_logps(model, trees)), upper):
        got = torch.autograd.grad((logps * weights).sum(), trained)
        assert max(g.abs().max().item() for g in expected) > 0.1
        close(got, expected)


def test_the_layout_by_hand():
    """Prompts 5 6 7 and 5 2 share the 5. 8 and 4 are predicted by the 7, at place 2, and 9 by the 8; 3 by the 2, at place 6."""
    batch = collate([Tree((5, 6, 7), ((8, 9), (4,))), Tree((5, 2), ((3,),))])
    assert batch.ids_BL.tolist() == [[5, 6, 7, 8, 9, 4, 2, 3]]
    assert batch.positions_BL.tolist() == [[0, 1, 2, 3, 4, 3, 1, 2]]
    assert batch.predict_N.tolist() == [2, 3, 2, 6]
    assert batch.row_N.tolist() == [0, 0, 0, 0]
    assert batch.targets_N.tolist() == [8, 9, 4, 3]
    assert batch.answer_N.tolist() == [0, 0, 1, 2]
    assert batch.tree_N.tolist() == [0, 0, 0, 1]
    assert batch.n_answers == 3
    assert [(row, columns.tolist()) for row, columns in batch.places] == [(0, [0, 1, 2, 3, 4, 5]), (0, [0, 6, 7])]
    assert batch.mask_B1LL[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0, 1, 0, 0],
        [1, 0, 0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 1, 1],
    ]


def test_padding_sees_itself_only_and_nobody_sees_it():
    """Trees of 1200 and 1197 tokens take a row each; the second's last three columns are padding."""
    batch = collate([Tree((5,) * 1199, ((6,),)), Tree((4,) * 1196, ((6,),))])
    assert batch.ids_BL.shape == (2, 1200)
    padding = batch.mask_B1LL[1, 0, 1197:]
    assert padding.int().tolist() == [[0] * 1197 + row for row in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    assert not batch.mask_B1LL[1, 0, :1197, 1197:].any()


@settings(max_examples=30)
@given(
    n_prefix=st.integers(0, 300), lengths=st.lists(st.integers(1, 60), min_size=1, max_size=30), seed=st.integers(0, 99)
)
def test_trees_on_a_common_prefix_share_rows(n_prefix, lengths, seed):
    """Every tree's own tokens stand at its places, in order, whichever row it went to; rows are filled evenly."""
    rng = random.Random(seed)
    prefix = tuple(rng.randrange(280) for _ in range(n_prefix))
    trees = [Tree((*prefix, i), (tuple(rng.randrange(280) for _ in range(n)),)) for i, n in enumerate(lengths)]
    batch = collate(trees)
    for tree, (row, columns) in zip(trees, batch.places, strict=True):
        assert batch.ids_BL[row, columns].tolist() == [*tree.prompt, *tree.answers[0]]
        assert batch.positions_BL[row, columns].tolist() == list(range(tree.length))
    shared = n_prefix if len(trees) > 1 else n_prefix + 1
    own = [t.length - shared for t in trees]
    B, L = batch.ids_BL.shape
    assert max(own) + shared <= L <= -(-sum(own) // B) + max(own) + shared


@given(lengths=st.lists(st.integers(1, 400), max_size=30), budget=st.integers(1, 1000))
def test_micro_batches_hold_every_row_once_within_the_budget(lengths, budget):
    trees = [Tree((i,) * n, ((0,),)) for i, n in enumerate(lengths)]
    batches = micro_batches(trees, range(len(trees)), budget)
    assert sorted(i for b in batches for i in b) == list(range(len(trees)))
    for batch in batches:
        assert len(batch) == 1 or collate([trees[i] for i in batch]).ids_BL.numel() <= budget


def test_micro_batches_of_some_rows():
    """Prompts that share nothing: 4 and 4 positions fit in 10, with 10 more they do not."""
    trees = [Tree((i,) * n, ((0,),)) for i, n in enumerate([3, 1, 3, 9])]
    assert micro_batches(trees, [3, 0, 2], 10) == [[0, 2], [3]]


def test_a_shared_prefix_counts_once_against_the_budget():
    """100 tokens in common and 3 of each tree's own: 30 trees are 190 positions."""
    trees = [Tree((*[7] * 100, i, i), ((1,),)) for i in range(60)]
    assert [len(b) for b in micro_batches(trees, range(60), 190)] == [30, 30]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_micro_batches_pad_little(lengths):
    """A batch that is past a quarter of the budget takes no tree that would make padding more than a twentieth of it."""
    budget = 512
    trees = [Tree((i,) * n, ((0,),)) for i, n in enumerate(lengths)]
    for batch in micro_batches(trees, range(len(trees)), budget):
        useful, longest = sum(trees[i].length for i in batch), trees[batch[-1]].length
        if useful - longest >= budget / 4:
            assert 1 - useful / collate([trees[i] for i in batch]).ids_BL.numel() <= 0.05 + 1e-9
