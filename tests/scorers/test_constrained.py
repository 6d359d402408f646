"""A verdict written under a grammar: whatever the model, it parses."""

import sys

import pytest
from scripted import harmful

from accord.errors import ModelError
from accord.policy import load_policy
from accord.scorers import constrained
from accord.scorers.constrained import ConstrainedJudge
from accord.starter import policy_path
from accord.types import Outcome


@pytest.fixture
def policy(monkeypatch):
    monkeypatch.setattr(constrained, "window", lambda _: 4096)
    full = load_policy(policy_path())
    short = full.hazards[0].model_copy(update={"definition": "harm", "disallowed": ("harm",), "allowed": ()})
    return full.model_copy(update={"hazards": (short,)})


def test_a_babbling_model_cannot_fail_to_parse(tiny_model, policy):
    """The tiny model is random: free, it never writes JSON. Under the grammar each of its replies is a verdict with a reason."""
    pytest.importorskip("xgrammar")
    judge = ConstrainedJudge(tiny_model, policy)
    scores = judge.score_all([harmful("the water"), harmful(""), harmful("how is that asked in the harbour")])
    assert [s.outcome for s in scores][1] is Outcome.EMPTY
    for score in (scores[0], scores[2]):
        assert score.outcome in (Outcome.COMPLIED, Outcome.REFUSED)
        assert score.reason in ("Yes by the policy", "No by the policy")
        assert len(score.evidence) <= constrained.MAX_REASON


def test_where_it_is_not_installed_the_command_is_named(tiny_model, policy, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    with pytest.raises(ModelError, match="pip install --no-deps xgrammar apache-tvm-ffi"):
        ConstrainedJudge(tiny_model, policy)
