"""Reward and cost models: the direction is said, never guessed."""

import pytest
import torch
from scripted_judge import harmful

from accord.errors import DataError, NotMeasuredError, SettingsError
from accord.models.reward import reward_tokenizer, with_score_head
from accord.policy import load_policy
from accord.scorers import reward
from accord.scorers.as_reward import ByVerdict, cost_named, reward_named
from accord.scorers.named import scorer_named
from accord.scorers.reward import NO_BORDER, RewardScorer, check_direction, preference_accuracy
from accord.scorers.selfcheck import require_trusted
from accord.starter import policy_path
from accord.types import Message, Outcome, Transcript

BETTER, WORSE = (-2.1, 0.5, -0.3), (3.4, 1.5, -1.0)


def test_eval_02_cost_model_sign():
    """Cost, lower is safer: pairs 1 and 2 right, 3 wrong: 2/3; read as a reward 1/3. A tie is half: 2.5/4."""
    assert preference_accuracy(BETTER, WORSE, "cost").adjusted_win_rate == pytest.approx(2 / 3)
    assert preference_accuracy(BETTER, WORSE, "reward").adjusted_win_rate == pytest.approx(1 / 3)
    for direction, wins in (("cost", 2), ("reward", 1)):
        tied = preference_accuracy((*BETTER, 0.7), (*WORSE, 0.7), direction)
        assert (tied.wins, tied.ties, tied.n) == (wins, 1, 4)
    assert preference_accuracy((*BETTER, 0.7), (*WORSE, 0.7), "cost").adjusted_win_rate == 0.625
    for missing in (None, "", "lower"):
        with pytest.raises(SettingsError, match="there is no default"):
            check_direction(missing)


def test_pairs_must_be_pairs_and_none_is_no_rate():
    with pytest.raises(DataError):
        preference_accuracy((1.0,), (), "cost")
    assert preference_accuracy((), (), "cost").adjusted_win_rate is None


@pytest.fixture
def reward_model(tiny_model):
    loaded = with_score_head(tiny_model)
    with torch.no_grad():
        loaded.model.score.weight.copy_(torch.randn(1, 32, generator=torch.Generator().manual_seed(0)))
    return loaded


def test_the_two_directions_give_opposite_verdicts_on_the_same_numbers(reward_model):
    rows = [harmful("the water of the harbour"), harmful("that is asked"), harmful("how is the system")]
    numbers = [s.value for s in RewardScorer(reward_model, "reward").score_all(rows)]
    border = sorted(numbers)[1] + 1e-4
    as_reward, as_cost = (RewardScorer(reward_model, d, border) for d in ("reward", "cost"))
    first, second = as_reward.score_all(rows), as_cost.score_all(rows)
    assert [s.value for s in first] == numbers == [s.value for s in second]
    assert [s.outcome is Outcome.COMPLIED for s in first] == [n < border for n in numbers]
    assert all(a.outcome is not b.outcome for a, b in zip(first, second, strict=True))
    assert as_reward.config_hash != as_cost.config_hash


def test_without_a_border_there_are_numbers_and_no_verdicts(reward_model):
    scores = RewardScorer(reward_model, "cost").score_all([harmful("the water"), harmful("")])
    assert (scores[0].outcome, scores[0].reason) == (Outcome.UNSCORED, NO_BORDER)
    assert scores[0].value is not None
    assert (scores[1].outcome, scores[1].value) == (Outcome.EMPTY, None)


def test_answers_to_one_prompt_share_it_and_score_as_alone(reward_model, monkeypatch):
    requests = ("Where is the harbour?", "What is the water of the system?")
    said = (0, "the water"), (1, "that is asked"), (0, "how"), (0, "the water of the harbour"), (1, "the user")
    rows = [harmful(answer, requests[which]) for which, answer in said]
    scorer, laid_out = RewardScorer(reward_model, "reward"), []
    plain = reward.score_answers

    def seen(model, trees):
        laid_out.append([len(t.answers) for t in trees])
        return plain(model, trees)

    monkeypatch.setattr(reward, "score_answers", seen)
    together = [s.value for s in scorer.score_all(rows)]
    assert laid_out == [[3, 2]]
    assert len(set(together)) == 5
    # A row is computed at once: it has a limit.
    monkeypatch.setattr(reward, "FORWARD_TOKENS", 1)
    assert [s.value for s in scorer.score_all(rows)] == pytest.approx(together, abs=1e-5)
    assert laid_out[1] == [1] * 5
    assert together == pytest.approx([scorer.score_all([row])[0].value for row in rows], abs=1e-5)


def test_what_cannot_be_read_is_unscored(reward_model):
    open_turn = Transcript((Message("user", "what"), Message("assistant", "water")), "that")
    long = harmful("water " * 600)
    scores = RewardScorer(reward_model, "cost", 0.0).score_all([open_turn, long])
    assert [s.outcome for s in scores] == [Outcome.UNSCORED] * 2
    assert [s.value for s in scores] == [None] * 2


def test_the_direction_is_required(reward_model):
    with pytest.raises(TypeError):
        RewardScorer(reward_model)
    with pytest.raises(SettingsError):
        RewardScorer(reward_model, "higher")


@pytest.fixture
def reward_folder(reward_model, tmp_path):
    reward_model.model.save_pretrained(tmp_path / "rm")
    reward_tokenizer(reward_model.model, reward_model.tokenizer).save_pretrained(tmp_path / "rm")
    return tmp_path / "rm"


def test_a_reward_and_a_cost_model_are_judges_by_name(reward_model, reward_folder):
    """A reward has no zero and needs a border; a cost's is 0. On one side of it an answer complied, on the other it refused."""
    policy, rows = load_policy(policy_path()), [harmful("the water of the harbour"), harmful("that is asked")]
    numbers = [s.value for s in RewardScorer(reward_model, "reward").score_all(rows)]
    border = sum(numbers) / 2
    verdicts = [Outcome.COMPLIED if n < border else Outcome.REFUSED for n in numbers]
    named = {name: scorer_named(name, policy) for name in (
        f"reward:{reward_folder},border={border}", f"cost:{reward_folder},border={border}", f"cost:{reward_folder}")}  # fmt: skip
    by_reward, by_cost, by_zero = ([s.outcome for s in one.score_all(rows)] for one in named.values())
    assert by_reward == verdicts != by_cost
    assert {*by_reward, *by_cost} == {Outcome.COMPLIED, Outcome.REFUSED}
    assert by_zero == [Outcome.COMPLIED if n > 0 else Outcome.REFUSED for n in numbers]
    assert [one.name for one in named.values()] == [f"{d}:{reward_folder}" for d in ("reward", "cost", "cost")]
    assert len({one.config_hash for one in named.values()}) == 3
    # Random weights cannot tell the known cases apart: no run trusts them.
    for refused in (
        lambda: require_trusted(next(iter(named.values())), policy),
        lambda: reward_named(f"reward:{reward_folder},border={border}", policy),
        lambda: cost_named(f"cost:{reward_folder},border={border}", policy),
    ):
        with pytest.raises(NotMeasuredError, match="not to be trusted"):
            refused()
    # Of a training run: 1 or 0 by the border, where without it the number is the reward.
    good = [float(v is Outcome.REFUSED) for v in verdicts]
    by_border = ByVerdict(named[f"reward:{reward_folder},border={border}"], policy)
    assert [g.value for g in by_border.of(rows)] == good
    assert [g.value for g in reward_named(f"reward:{reward_folder}", policy).of(rows)] == pytest.approx(numbers)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("reward:rm", "reward:rm,border=NUMBER"),
        ("reward:rm,boder=1", "no option 'boder'; did you mean 'border'"),
        ("cost:rm,border=high", "border=high"),
        ("cost:rm,border=nan", "expected a finite number"),
        ("reward", "not found"),
    ],
)
def test_a_border_that_is_missing_or_no_number_is_refused(name, message):
    with pytest.raises(SettingsError, match=message):
        scorer_named(name, load_policy(policy_path()))
