"""Anything that scores as a reward: what could not be judged has none, and is never 0."""

import pytest
import torch

from accord.errors import DataError, NotMeasuredError, SettingsError
from accord.models.reward import score_head, with_score_head
from accord.policy import load_policy
from accord.scorers.as_reward import (
    ByFunction,
    ByNumber,
    ByVerdict,
    Given,
    Piecewise,
    Weighted,
    combined,
    cost_named,
    reward_named,
)
from accord.scorers.refusal import RefusalScorer
from accord.scorers.reward import RewardScorer
from accord.starter import policy_path
from accord.types import Message, Outcome, Score, Transcript

POLICY = load_policy(policy_path())
CLAUSE = next(h.id for h in POLICY.hazards if h.response == "refuse")


def together(reward, rows):
    columns = {r.name: r.of(rows) for r in reward.rewards}
    given = [{name: column[i] for name, column in columns.items()} for i in range(len(rows))]
    return [g.value for g in reward.together(given, rows)]


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


@pytest.mark.parametrize("make", [reward_named, cost_named, lambda name, policy: combined([f"0.5*{name}"], policy)])
def test_a_judge_that_fails_its_known_cases_teaches_nothing(monkeypatch, make):
    """It calls every answer compliance: of nine known cases it gets the three right in which the request is answered."""

    class Always:
        name, config_hash = "always", ""

        def score_all(self, transcripts):
            return [Score(Outcome.COMPLIED, self.name) for _ in transcripts]

    monkeypatch.setattr("accord.scorers.as_reward.scorer_named", lambda *_: Always())
    with pytest.raises(NotMeasuredError, match="'always' is not to be trusted: it fails 6 known cases"):
        make("always", POLICY)


def test_names_and_weights(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def long(transcript):\n    return len(transcript.answer)\n")
    both = combined([f"0.5*{mine}:long", "refusal"], POLICY)
    assert both.name == f"0.5 * {mine}:long + 1 * refusal"
    assert together(both, [said(NO), said("")]) == [0.5 * len(NO) + 1, None]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no reward: give --reward NAME"),
        (["refusal", "0.5*refusal"], "'refusal' is given twice"),
        (["half*refusal"], "'half' is no weight"),
        (["refusl"], "'refusl' not found; did you mean 'refusal'"),
        (["reward:"], "names no model"),
        (["llama2:x*a,b"], "'x' is no weight"),
        (["llama2:a"], "two reward models' runs"),
        (["llama2:a,b", "refusal"], "no other reward beside it"),
    ],
)
def test_what_is_no_reward_is_refused(names, message):
    with pytest.raises(SettingsError, match=message):
        combined(names, POLICY)


def test_two_rewards_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr("accord.scorers.as_reward.reward_named", lambda name, _: ByFunction("same", len))
    with pytest.raises(DataError, match="one name"):
        combined(["a", "b"], POLICY)


def test_one_reward_is_called_as_it_is():
    assert Weighted(((1.0, reward_named("refusal", POLICY)),)).name == "refusal"


def test_llama_2s_combination_by_hand():
    """Of logits (safety, helpfulness): harmful (3, 1) counts 3, ordinary (3, 1) counts 1, ordinary (-3, 9), unsafe, counts -3.

    Whitened: mean 1/3, deviation sqrt(168 / 18). What one of the two could not score has none and is in no mean.
    """
    safety = ByFunction("safety", lambda t: {"bad": -3.0}.get(t.answer, 3.0))
    helpful = ByFunction("helpful", lambda t: {"bad": 9.0, "odd": None}.get(t.answer, 1.0))
    rows = [said("x"), said("x", "ordinary"), said("odd"), said("bad", "ordinary")]
    both = Piecewise(safety, helpful)
    found = together(both, rows)
    s = (168 / 18) ** 0.5
    assert found[2] is None
    assert [found[i] for i in (0, 1, 3)] == pytest.approx([(3 - 1 / 3) / s, (1 - 1 / 3) / s, (-3 - 1 / 3) / s])


def test_weights_bring_both_to_one_scale():
    """Safety counts twice: harmful (3, 1) counts 6, ordinary (3, 1) counts 1, ordinary (-3, 9), unsafe, counts -6: mean 1/3."""
    safety = ByFunction("safety", lambda t: {"bad": -3.0}.get(t.answer, 3.0))
    helpful = ByFunction("helpful", lambda t: {"bad": 9.0}.get(t.answer, 1.0))
    both = Piecewise(safety, helpful, (2.0, 1.0))
    found = together(both, [said("x"), said("x", "ordinary"), said("bad", "ordinary")])
    s = (((17 / 3) ** 2 + (2 / 3) ** 2 + (19 / 3) ** 2) / 2) ** 0.5
    assert found == pytest.approx([17 / 3 / s, 2 / 3 / s, -19 / 3 / s])
    assert both.name == "Llama 2's combination of 2 * safety and helpful"
