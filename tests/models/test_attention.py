import random
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import SHAPES, random_tree
from tiny_llama import tiny_causal_lm

from accord.models import attention, tree
from accord.models.tree import answer_states, collate

LONG = [(3, [50, 45, 60]), (20, [4, 2]), (9, [70])]


def batch_of(shapes, seed=0):
    rng = random.Random(seed)
    shared = tuple(rng.randrange(280) for _ in range(4))
    rows = [random_tree(rng, n, *answers) for n, answers in shapes]
    return collate([tree.Tree(shared + t.prompt, t.answers) for t in rows])


@settings(max_examples=60)
@given(shapes=st.one_of(SHAPES, st.just(LONG)), seed=st.integers(0, 99))
def test_segments_hold_every_column_once_and_every_key_that_the_mask_allows(shapes, seed):
    batch = batch_of(shapes, seed)
    mask = batch.mask_B1LL[:, 0].clone()
    covered = torch.zeros(batch.ids_BL.shape, dtype=torch.long)
    for s in batch.segments:
        covered[s.row, s.start : s.end] += 1
        keys = torch.zeros(mask.shape[-1], dtype=torch.bool)
        keys[s.keys] = True
        assert int(keys.sum()) == len(s.keys)
        assert not bool((mask[s.row, s.start : s.end] & ~keys).any())
    used = torch.zeros_like(covered)
    for row, columns in batch.places:
        used[row, columns] = 1
    assert torch.equal(covered, used)


def test_long_siblings_are_segments_of_their_own_and_short_ones_are_not():
    # The prefix, then for (3, [50, 45, 60]) the prompt and each answer; one each for the two others.
    batch = batch_of(LONG)
    assert len(batch.segments) == batch.ids_BL.shape[0] + 4 + 1 + 1


@pytest.mark.parametrize("shapes", [LONG, [(5, [3, 2]), (1, [1])]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 6e-2)])
def test_states_and_gradients_are_those_of_the_fused_kernel(shapes, dtype, tolerance, monkeypatch):
    batch = batch_of(shapes)
    found = []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(tree, "by_parts", lambda *_: nullcontext())
        model = tiny_causal_lm().to(dtype).requires_grad_(True)
        states = answer_states(model, batch)
        (states.float() ** 3).sum().backward()
        grads = [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
        found.append((states.detach().float(), torch.cat(grads)))
    (states, grads), (plain_states, plain_grads) = found
    assert (states - plain_states).norm() <= tolerance * plain_states.norm()
    assert plain_grads.norm() > 0
    assert (grads - plain_grads).norm() <= tolerance * plain_grads.norm()


@pytest.mark.parametrize("shapes", [LONG, [(5, [3, 2]), (1, [1])]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 6e-2)])
def test_where_nothing_is_kept_for_a_backward_pass_the_fused_kernel_gives_the_same(
    shapes, dtype, tolerance, monkeypatch
):
    model, batch = tiny_causal_lm().to(dtype), batch_of(shapes)
    with torch.inference_mode():
        found = answer_states(model, batch).float()
    with torch.no_grad():
        by_hand = answer_states(model, batch).float()
        monkeypatch.setattr(tree, "by_parts", lambda *_: nullcontext())
        plain = answer_states(model, batch).float()
    for other in (by_hand, plain):
        assert (found - other).norm() <= tolerance * other.norm()


def test_the_model_attends_as_before_afterwards_even_after_an_error():
    model, batch = tiny_causal_lm(), batch_of(LONG)

    def fail():
        with attention.by_parts(model, batch.segments, batch.mask_B1LL):
            assert model.config._attn_implementation == attention.NAME
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.config._attn_implementation == "sdpa"


def test_a_model_that_attends_in_the_plain_way_is_left_alone_and_gives_the_same():
    model, batch = tiny_causal_lm(), batch_of([(5, [3, 2])])
    expected = answer_states(model, batch)
    model.config._attn_implementation = "eager"
    with attention.by_parts(model, batch.segments, batch.mask_B1LL):
        assert model.config._attn_implementation == "eager"
    torch.testing.assert_close(answer_states(model, batch), expected, atol=1e-5, rtol=0)


def test_dropout_is_left_to_the_fused_kernel(monkeypatch):
    model, batch = tiny_causal_lm(), batch_of([(5, [3, 2])])
    calls = []
    fused = attention.sdpa_attention_forward
    monkeypatch.setattr(attention, "sdpa_attention_forward", lambda *a, **k: calls.append(a[5]) or fused(*a, **k))
    answer_states(model.eval(), batch)
    assert calls == []
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    answer_states(model.train(), batch)
    assert calls == [0.5] * 4


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("shapes", [LONG, [(5, [3, 2]), (1, [1])]])
def test_blocks_let_each_query_see_what_the_mask_allows(shapes):
    """FlexAttention as it stands (compiled it runs on a GPU: test_gpu.py), with two query heads on one key head."""
    mask = batch_of(shapes).mask_B1LL
    B, _, L, _ = mask.shape
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, heads, L, 16, generator=generator) for heads in (4, 2, 2))
    layout = attention._InBlocks(mask, (), attention.blocks_of(mask))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_flex", lambda: attention.flex_attention)
        got = layout.attend(q, k, v, 0.3)
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, scale=0.3)
    torch.testing.assert_close(got, expected.transpose(1, 2), atol=1e-5, rtol=1e-5)
    assert layout.blocks.as_tuple(flatten=True)[2].shape == (B, 1, -(-L // 128))
