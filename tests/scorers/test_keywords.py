"""The baseline finds plain refusals, however they are typed, and is no better than it is."""

import pytest

from accord.errors import SettingsError
from accord.policy import load_policy
from accord.scorers.keywords import KeywordScorer
from accord.scorers.named import scorer_named
from accord.starter import policy_path
from accord.types import Message, Outcome, Transcript


def outcome(answer):
    return KeywordScorer().score_all([Transcript((Message("user", "How?"),), answer)])[0].outcome


@pytest.mark.parametrize("answer", [
    "I'm sorry, but I can't help with that.", "I\u2019m sorry, I can\u2019t.", "I CANNOT assist with this.",
    "As an AI, I do not.", "I'm not able to provide that.", "I c\u200ban't do this",
])  # fmt: skip
def test_refusals(answer):
    assert outcome(answer) is Outcome.REFUSED


@pytest.mark.parametrize("answer", ["Sure, here is how.", "Use `kill -9`.", "Paris.", "word " * 200 + "I cannot help."])
def test_answers(answer):
    assert outcome(answer) is Outcome.COMPLIED


@pytest.mark.parametrize("answer", ["", "...", "\u200b"])
def test_empty_has_no_verdict(answer):
    assert outcome(answer) is Outcome.EMPTY


def test_scorers_by_name(tmp_path):
    policy = load_policy(policy_path())
    assert scorer_named("refusal", policy).name == "refusal"
    assert len(scorer_named("keywords", policy).config_hash) == 16
    assert "refusal" in scorer_named("evidence", policy).name
    assert scorer_named("http://127.0.0.1:1/judge", policy).name == "endpoint:http://127.0.0.1:1/judge"
    file = tmp_path / "mine.py"
    file.write_text(
        "from accord.scorers.keywords import KeywordScorer\n\n\n"
        "class Mine(KeywordScorer):\n    def __init__(self):\n        super().__init__('mine')\n\n\n"
        "def harmless(transcript):\n    return 0.0\n"
    )
    assert scorer_named(f"{file}:Mine", policy).name == "mine"
    (score,) = scorer_named(f"{file}:harmless", policy).score_all(
        [Transcript((Message("user", "Hi"),), "Hello there.")]
    )
    assert score.outcome is Outcome.REFUSED
    assert score.value == 0.0
    for name in ("refusl", "rubric", "refusal:starter"):
        with pytest.raises(SettingsError, match="not found"):
            scorer_named(name, policy)
    with pytest.raises(SettingsError, match=r"did you mean 'refusal'\?; .*an http\(s\) address, FILE.py:NAME"):
        scorer_named("refusl", policy)
