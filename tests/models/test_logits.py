"""A model's logits against its last hidden states times its head's weight, as losses take them."""

import pytest
import torch
from tiny_llama import tiny
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)
from unshareable import SMALL

from accord.errors import ModelError
from accord.models.head import token_logps
from accord.models.logits import logit_scale
from accord.models.projection import Projection
from accord.models.reward import with_score_head
from accord.models.tree import Tree, answer_states, collate, decoder_of, head_weight
from accord.models.work import sizes_of

GPT_WORDS = {name: SMALL[name] for name in SMALL if name != "head_dim"}


def granite(**more):
    """Divides its logits by 8."""
    torch.manual_seed(0)
    return GraniteForCausalLM(GraniteConfig(**GPT_WORDS, logits_scaling=8.0, **more)).eval().requires_grad_(False)


def cohere():
    """Multiplies its logits by 1 / 5, which no binary fraction is."""
    torch.manual_seed(0)
    config = CohereConfig(**GPT_WORDS, logit_scale=0.2, bos_token_id=0, eos_token_id=1)
    return CohereForCausalLM(config).eval().requires_grad_(False)


def gemma_2():
    """Caps its logits at 30."""
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SMALL, bos_token_id=0, eos_token_id=1)).eval()


def phi():
    """Has a bias in its head, which is zero before training."""
    torch.manual_seed(0)
    return PhiForCausalLM(PhiConfig(**GPT_WORDS)).eval()


@pytest.mark.parametrize(("make", "scale"), [(granite, 1 / 8), (cohere, 0.2)])
def test_log_probabilities_of_a_model_that_scales_its_logits_are_its_own(make, scale):
    """Against log_softmax of what its forward pass returns; without the factor they are off by more than half a nat."""
    model, tree = make(), Tree((3, 5, 7), ((9, 4, 1),))
    assert logit_scale(model) == pytest.approx(scale, rel=1e-6)
    with torch.no_grad():
        logits_LV = model(torch.tensor([[*tree.prompt, *tree.answers[0]]])).logits[0].float()
        own_N = logits_LV[2:5].log_softmax(-1)[range(3), list(tree.answers[0])]
        batch = collate([tree])
        states_ND = answer_states(model, batch)
        for head in (head_weight(model), Projection(head_weight(model))):
            torch.testing.assert_close(token_logps(states_ND, head, batch.targets_N).logps_N, own_N, atol=1e-5, rtol=0)
        unscaled_N = token_logps(states_ND, model.lm_head.weight, batch.targets_N).logps_N
    assert (unscaled_N - own_N).abs().max() > 0.5
    assert sizes_of(model).head == 64 * 32


def test_a_scaled_head_is_not_trained():
    with pytest.raises(ModelError, match=r"multiplies its logits by 0\.125.*train adapters"):
        head_weight(granite().requires_grad_(True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("make", "why"), [(gemma_2, r"caps them at 30\.0"), (phi, "head has a bias")])
def test_a_model_whose_logits_are_something_else_is_refused(make, why, dtype):
    with pytest.raises(ModelError, match=why):
        head_weight(make().to(dtype))


def test_a_plain_model_is_tried_once_and_left_as_it_was(monkeypatch):
    model = tiny().model
    ids = torch.tensor([[3, 5, 7]])
    before = model(ids).logits
    state = torch.get_rng_state()
    assert head_weight(model) is model.lm_head.weight
    assert "forward" not in vars(decoder_of(model))
    assert torch.equal(model(ids).logits, before)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(model, "forward", None)
    head_weight(model)


def test_a_reward_model_has_no_logits_to_be_tried():
    loaded = tiny()
    assert with_score_head(loaded).model.get_output_embeddings() is None
