"""Anything that scores as a reward: what could not be judged has none, and is never 0."""

import pytest
import torch

from accord.errors import DataError, SettingsError
from accord.models.reward import score_head, with_score_head
from accord.policy import load_policy
from accord.scorers.as_reward import (
    ByFunction,
    ByNumber,
    ByVerdict,
    Given,
    Weighted,
    cost_named,
    reward_named,
    weighted,
)
from accord.scorers.refusal import RefusalScorer
from accord.scorers.reward import RewardScorer
from accord.starter import policy_path
from accord.types import Message, Outcome, Score, Transcript

POLICY = load_policy(policy_path())
CLAUSE = next(h.id for h in POLICY.hazards if h.response == "refuse")


def said(answer, kind="harmful"):
    return Transcript((Message("user", "Tell me how to do it."),), answer, kind, CLAUSE)


NO, YES = "I'm sorry, but I can't help with that.", "Sure. First you take the lamp, then you go to the harbour."


def test_a_verdict_is_worth_1_where_the_policy_asks_for_it():
    reward = ByVerdict(RefusalScorer(), POLICY)
    given = reward.of([said(NO), said(YES), said(NO, "ordinary"), said(YES, "ordinary"), said("")])
    assert [g.value for g in given] == [1, 0, 0, 1, None]
    assert given[-1].reason


def test_a_cost_is_the_other_way_round():
    cost = cost_named("refusal", POLICY)
    assert [g.value for g in cost.of([said(NO), said(YES), said("")])] == [0, 1, None]
    assert cost.name == "not refusal"
    with pytest.raises(SettingsError, match="'reward:x' rewards; a cost is a cost model"):
        cost_named("reward:x", POLICY)


class Silent:
    name, config_hash = "silent", ""

    def score_all(self, transcripts):
        return [Score(Outcome.UNSCORED, self.name, "gone", value=None) for _ in transcripts]


def test_a_judge_that_fails_gives_nothing():
    assert ByNumber(Silent()).of([said(NO)]) == [Given(None, "gone")]
    assert ByVerdict(Silent(), POLICY).of([said(NO)]) == [Given(None, "gone")]
    for function in (lambda _: None, lambda _: float("nan"), lambda _: "7", lambda t: t.missing):
        (given,) = ByFunction("f", function).of([said(NO)])
        assert given.value is None
        assert given.reason


def test_a_reward_models_own_number_and_a_costs_turned_round(tiny_model):
    loaded = with_score_head(tiny_model)
    with torch.no_grad():
        score_head(loaded.model).weight.normal_()
    rows = [said(NO), said(YES)]
    scores = RewardScorer(loaded, "reward").score_all(rows)
    assert [g.value for g in ByNumber(RewardScorer(loaded, "reward")).of(rows)] == [s.value for s in scores]
    assert [g.value for g in ByNumber(RewardScorer(loaded, "cost"), -1).of(rows)] == [-s.value for s in scores]


def test_names_and_weights(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def long(transcript):\n    return len(transcript.answer)\n")
    both = weighted([f"0.5*{mine}:long", "refusal"], POLICY)
    assert both.name == f"0.5 * {mine}:long + 1 * refusal"
    (given,) = both.by_part([said(NO)])
    assert both.together(given).value == 0.5 * len(NO) + 1
    (given,) = both.by_part([said("")])
    assert both.together(given).value is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no reward: give --reward NAME"),
        (["refusal", "0.5*refusal"], "'refusal' is given twice"),
        (["half*refusal"], "'half' is no weight"),
        (["refusl"], "'refusl' not found; did you mean 'refusal'"),
        (["reward:"], "names no model"),
    ],
)
def test_what_is_no_reward_is_refused(names, message):
    with pytest.raises(SettingsError, match=message):
        weighted(names, POLICY)


def test_two_rewards_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr("accord.scorers.as_reward.reward_named", lambda name, _: ByFunction("same", len))
    with pytest.raises(DataError, match="one name"):
        weighted(["a", "b"], POLICY)


def test_one_reward_is_called_as_it_is():
    assert Weighted(((1.0, reward_named("refusal", POLICY)),)).name == "refusal"
