"""What is drawn: which tokens are kept, with what log-probabilities, and where the sums end."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.errors import SettingsError
from accord.models import sampling as sampling_module
from accord.models.sampling import BLOCK, Sampling, draw

PROBS = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04])
MANY = 400


def drawn(probs, **kept):
    """Return, of a sweep of uniform numbers, each token's share and its log-probability."""
    u = (torch.arange(MANY, dtype=torch.float64) + 0.5) / MANY
    tokens, logps = draw(probs.log().expand(MANY, -1), u, Sampling(1, 1.0, **kept))
    return {
        t: ((tokens == t).double().mean().item(), logps[tokens == t][0].item()) for t in sorted(set(tokens.tolist()))
    }


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_k": 9}, [0, 1, 2, 3, 4]),
        ({"top_p": 0.69}, [0, 1]),  # 0.4 + 0.3 reach it
        ({"top_p": 0.75}, [0, 1, 2]),  # the token that reaches it is kept
        ({"top_p": 1e-9}, [0]),
        ({"min_p": 0.5}, [0, 1, 2]),  # at least half as likely as 0.4
        ({"min_p": 0.51}, [0, 1]),
        ({"top_k": 3, "top_p": 0.6}, [0, 1]),  # of 0.9: 0.44, 0.78
        ({}, [0, 1, 2, 3, 4]),
    ],
)
def test_what_is_kept_by_hand_and_its_probabilities(kept, left):
    got = drawn(PROBS, **kept)
    assert list(got) == left
    total = PROBS[left].sum().item()
    for token, (share, logp) in got.items():
        assert share == pytest.approx(PROBS[token].item() / total, abs=1 / MANY)
        assert logp == pytest.approx(math.log(PROBS[token].item() / total), abs=1e-5)


def test_temperature_comes_first():
    """At 1/2 probabilities are squared: 0.16, 0.09, 0.04 of 0.2952, and the first reaches half of it."""
    got = draw(PROBS.log()[None], torch.tensor([0.99]), Sampling(1, 0.5, top_p=0.5))
    assert (got[0].item(), got[1].item()) == (0, pytest.approx(0, abs=1e-6))


def test_a_wide_nucleus_is_found_beyond_the_first_tokens(monkeypatch):
    monkeypatch.setattr(sampling_module, "NUCLEUS", 2)
    assert list(drawn(PROBS, top_p=0.75)) == [0, 1, 2]
    # In one batch with a row whose nucleus is narrow.
    logits = torch.stack([PROBS.log(), torch.tensor([9.0, 0, 0, 0, 0])])
    tokens, _ = draw(logits, torch.tensor([0.999, 0.999]), Sampling(1, 1.0, top_p=0.95))
    assert tokens.tolist() == [3, 0]


@given(
    n=st.integers(1, 3 * BLOCK),
    seed=st.integers(0, 99),
    u=st.floats(0, 1, exclude_max=True),
    zeroed=st.floats(0, 0.95),
)
def test_a_draw_inverts_the_cumulative_distribution(n, seed, u, zeroed):
    """As one sum over the whole vocabulary would; nothing without probability is ever drawn."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(1, n, generator=generator)
    gone = torch.rand(1, n, generator=generator) < zeroed
    gone[0, seed % n] = False
    logits = logits.masked_fill(gone, -torch.inf)
    token, logp = draw(logits, torch.tensor([u], dtype=torch.float64), Sampling(1, 1.0))
    probs = logits.double().softmax(-1)[0]
    assert not gone[0, token]
    assert logp.item() == pytest.approx(math.log(probs[token].item()), abs=1e-5)
    cumulative = probs.cumsum(0)
    before = cumulative[token].item() - probs[token].item()
    assert before - 1e-6 <= u <= cumulative[token].item() + 1e-6


@pytest.mark.parametrize(
    "wrong", [{"top_p": 0}, {"top_p": 1.1}, {"min_p": 1}, {"top_k": -1}, {"temperature": -1}, {"stop": ("",)}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        Sampling(**wrong)
