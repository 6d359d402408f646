"""The online loop on the tiny model: what it learns from, what it leaves out, when it ends, that it gives the same bits."""

import json
import math
from dataclasses import replace
from functools import partial
from statistics import fmean

import pytest
import torch
from tiny_llama import tiny
from torch import nn

from accord.errors import AccordError, DataError
from accord.models.adapters import add_lora, scaled
from accord.models.chat import ChatFormat
from accord.models.held import held
from accord.models.sampling import Sampling
from accord.models.tree import Tree, head_weight
from accord.objectives.lagrangian import Multiplier
from accord.recipes.online_run import method_named
from accord.scorers.as_reward import ByFunction, Given, Weighted
from accord.train import online
from accord.train.checkpoint import NAME
from accord.train.collect import Asked, Judges
from accord.train.learner import Learner, OnlineSettings
from accord.train.mixture import Mixture
from accord.train.offline import TrainSettings
from accord.train.online import Kept, fit_online
from accord.train.sampled import Penalties
from accord.train.samples import read_samples, repetition, step_file
from accord.train.states import NOTHING_FROZEN, FrozenStates, freeze_states
from accord.types import Message, Prompt, Silent

N_NEW = 8
# In place of a first layer with adapters: all weights are trained.
FULL = -1
LOOP = TrainSettings(learning_rate=3e-2, weight_decay=0.0)


def odd(transcript):
    """The share of characters with an odd code: about a half before anything is learned."""
    text = transcript.answer
    return sum(ord(c) % 2 for c in text) / len(text) if text else 0.0


def judges(function=odd, **more):
    return Judges(Weighted(((1.0, ByFunction("odd", function)),)), **more)


def problem(method, first_layer=0, seed=0):
    """A tiny model under a fresh adapter, or all of whose weights are trained, and six prompts."""
    loaded = tiny()
    torch.manual_seed(seed)
    if first_layer == FULL:
        model = loaded.model.requires_grad_(True)
        reference = held(model)
    else:
        model = add_lora(loaded, 4, first_layer)
        reference = partial(scaled, model, 0.0)
    chat = ChatFormat(loaded.tokenizer)
    value_head = None
    if method.needs_values:
        value_head = nn.Linear(32, 1)
        nn.init.zeros_(value_head.weight)
        nn.init.zeros_(value_head.bias)
        model.add_module("value_head", value_head)
    learner = Learner(
        model.eval(),
        head_weight(model),
        reference,
        chat.end_ids,
        chat.decode,
        max(first_layer, 0),
        value_head,
    )
    texts = ("the water", "what is in the harbour", "how", "is that the harbour of the system", "the user asked", "and")
    prompts = [Prompt(f"p{i}", (Message("user", t),), "ordinary", "", f"p{i}", "train") for i, t in enumerate(texts)]
    return learner, [Asked(p, chat.prompt(p.messages)) for p in prompts]


def settings(steps=3, kl=0.0, **more):
    given = {
        "steps": steps, "prompts_per_step": 3, "group": 4, "prompts_per_update": 3, "passes": 1,
        "sampling": Sampling(N_NEW, 1.0), "penalties": Penalties(kl=kl), "loop": LOOP,
    }  # fmt: skip
    return OnlineSettings(**{**given, **more})


LONG = {"steps": 25, "group": 8, "prompts_per_step": 6, "prompts_per_update": 6}


def divergence(result):
    """The mean over the last steps: of one step's few answers it is a noisy estimate."""
    return fmean(log.metrics["rl/kl"] for log in result.steps[-8:])


def run(name, folder, asked=None, first_layer=0, judged=None, **more):
    method = method_named(name, N_NEW, {})
    learner, prompts = problem(method, first_layer)
    result = fit_online(learner, method, judged or judges(), prompts, asked or settings(), folder, Silent(), **more)
    return learner, result


def weights(learner):
    return {name: p.detach().clone() for name, p in learner.model.named_parameters() if p.requires_grad}


METHODS = ["ppo", "grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce_plus_plus", "rejection", "online-dpo"]


@pytest.mark.parametrize("name", METHODS)
def test_the_reward_rises(name, tmp_path):
    asked = settings(steps=40, group=8, prompts_per_step=6, prompts_per_update=6)
    _, result = run(name, tmp_path, asked)
    rewards = [log.metrics["reward"] for log in result.steps]
    assert len(rewards) == 40
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.06
    assert result.ended == ""


def test_a_reward_that_is_shifted_teaches_a_value_model_the_same(tmp_path):
    """A reward model's numbers have no zero: around -8 the value model would learn that, and the policy its error."""
    asked = settings(passes=2, kl=0.1)
    _, result = run("ppo", tmp_path / "as it is", asked)
    _, shifted = run("ppo", tmp_path / "shifted", asked, judged=judges(lambda t: odd(t) - 8))
    for log, other in zip(result.steps, shifted.steps, strict=True):
        assert other.metrics["reward"] == pytest.approx(log.metrics["reward"] - 8, abs=1e-4)
        assert other.metrics["rl/value_error"] == pytest.approx(log.metrics["rl/value_error"], rel=1e-2)
        assert other.loss == pytest.approx(log.loss, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "first_layer"),
    [("ppo", 0), ("ppo", 2), ("ppo", FULL), ("grpo", 0), ("grpo", 2), ("rejection", 2), ("online-dpo", 0)],
)
def test_a_run_that_is_cut_off_and_gone_on_with_gives_the_same_bits(name, first_layer, tmp_path):
    """Cut while it scores the third step's answers, gone on with from the checkpoint of the second's end, rollouts and all."""
    asked = settings(steps=5, kl=0.1, passes=2, prompts_per_update=2)
    whole, result = run(name, tmp_path / "whole", asked, first_layer)
    calls = []

    def cut_off(transcript):
        calls.append(transcript)
        if len(calls) > 2 * 12 + 5:
            raise KeyboardInterrupt
        return odd(transcript)

    clock = iter(range(0, 10_000, 40))  # every look at the clock finds the next checkpoint due
    with pytest.raises(KeyboardInterrupt):
        run(name, tmp_path / "cut", asked, first_layer, judges(cut_off), clock=lambda: next(clock))
    assert (tmp_path / "cut" / NAME).exists()
    assert not step_file(tmp_path / "cut", 2).exists()
    again, gone_on = run(name, tmp_path / "cut", asked, first_layer)
    assert [log.metrics for log in gone_on.steps] == [log.metrics for log in result.steps]
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(again)[key]), key
    for step in range(5):
        assert step_file(tmp_path / "whole", step).read_bytes() == step_file(tmp_path / "cut", step).read_bytes()


def test_rollouts_that_stand_there_are_not_sampled_again(tmp_path, monkeypatch):
    """A run that died between its rollouts and its checkpoint: the same model sampled them, so they are read back."""
    whole, _ = run("grpo", tmp_path / "whole")
    for step in range(3):
        target = step_file(tmp_path / "again", step)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(step_file(tmp_path / "whole", step).read_bytes())
    monkeypatch.setattr("accord.train.collect.generate", lambda *_, **__: pytest.fail("sampled again"))
    again, _ = run("grpo", tmp_path / "again")
    assert all(torch.equal(value, weights(again)[key]) for key, value in weights(whole).items())


def test_what_the_limit_cut_can_be_worth_less(tmp_path):
    """The rollouts and what is watched keep the reward as it was given."""
    seen = []

    class Spy(type(method_named("grpo", N_NEW, {}))):
        def lesson(self, learner, groups, settings):
            seen.extend(groups)
            return super().lesson(learner, groups, settings)

    method = method_named("grpo", N_NEW, {})
    spy = Spy(method.name, method.loss, method.advantages, method.kl_in)
    learner, prompts = problem(method)
    fit_online(learner, spy, judges(), prompts, settings(steps=1, cut_penalty=0.5), tmp_path, Silent())
    pairs = [(s, float(r)) for g in seen for s, r in zip(g.samples, g.rewards, strict=True)]
    assert {s.truncated for s, _ in pairs} == {True, False}
    for s, worth in pairs:
        assert worth == pytest.approx(s.reward - (0.5 if s.truncated else 0.0))
    assert [s.reward for s, _ in pairs] == [s.reward for s in read_samples(step_file(tmp_path, 0))]


def test_an_answer_that_could_not_be_scored_is_left_out_and_counted(tmp_path):
    """Every third answer: its reward is none, not 0; the others' groups are smaller."""
    calls = []

    def sometimes(transcript):
        calls.append(0)
        if len(calls) % 3 == 0:
            raise ValueError("no verdict")
        return odd(transcript)

    _, result = run("grpo", tmp_path, judged=judges(sometimes))
    samples = read_samples(step_file(tmp_path, 0))
    left_out = [s for s in samples if s.reward is None]
    assert len(left_out) == 4
    assert {*left_out[0].unscored.values()} == {"ValueError: no verdict"}
    assert result.steps[0].metrics["unscored"] == pytest.approx(1 / 3)
    there = [s.reward for s in samples if s.reward is not None]
    assert result.steps[0].metrics["reward"] == pytest.approx(sum(there) / 8)


def test_where_nothing_could_be_scored_the_run_says_why(tmp_path):
    with pytest.raises(AccordError, match=r"not one of 12 answers could be scored .*expected a number"):
        run("grpo", tmp_path, judged=judges(lambda _: None))


def test_a_reward_that_tells_nothing_apart_ends_the_run(tmp_path):
    learner, result = run("grpo", tmp_path, settings(steps=20), judged=judges(lambda _: 0.1))
    assert len(result.steps) == 10
    assert "worth the same" in result.ended
    assert all(log.metrics["flat_groups"] == 1 for log in result.steps)
    # Nothing to learn moves nothing.
    start = problem(method_named("grpo", N_NEW, {}))[0]
    assert all(torch.equal(value, weights(start)[key]) for key, value in weights(learner).items())
    # And a finished run is not begun again.
    assert run("grpo", tmp_path, settings(steps=20), judged=judges(lambda _: 0.1))[1].steps == result.steps


def test_an_engine_that_is_another_model_ends_the_run(tmp_path, monkeypatch):
    from accord.models.rollout import generate

    def other(*given, **more):
        return [replace(r, logps=tuple(x - 1 for x in r.logps)) for r in generate(*given, **more)]

    monkeypatch.setattr("accord.train.collect.generate", other)
    _, result = run("grpo", tmp_path)
    assert len(result.steps) == 1
    assert "what samples and what learns give" in result.ended


def test_engine_and_learner_agree_and_the_first_ratio_is_one(tmp_path):
    """In fp32 to rounding; on the first step nothing is clipped, and the reference is where training began."""
    _, result = run("grpo", tmp_path, settings(kl=0.1))
    first = result.steps[0].metrics
    assert first["rl/mismatch"] < 1e-6
    assert (first["rl/clipped"], first["rl/kl_to_old"]) == (0, 0)
    assert abs(first["rl/kl"]) < 1e-4
    assert result.steps[-1].metrics["rl/kl"] != 0


@pytest.mark.parametrize("name", ["grpo", "rloo", "ppo"])
def test_a_strong_penalty_keeps_the_model_where_it_was(name, tmp_path):
    far, near = (run(name, tmp_path / str(kl), settings(kl=kl, **LONG))[1] for kl in (1e-9, 1.0))
    assert divergence(near) < divergence(far) / 2


def test_where_all_weights_are_trained_the_reference_is_what_they_were(tmp_path):
    learner, _ = run("grpo", tmp_path, settings(kl=0.1), FULL)
    ids, before = torch.tensor([[3, 5, 8, 1]]), tiny().model
    with torch.no_grad():
        assert not torch.allclose(learner.model(ids).logits, before(ids).logits)
        with learner.reference():
            assert torch.equal(learner.model(ids).logits, before(ids).logits)
        assert not torch.allclose(learner.model(ids).logits, before(ids).logits)


def test_the_penalty_over_the_whole_vocabulary_keeps_it_too(tmp_path):
    _, near = run("grpo", tmp_path / "near", settings(penalties=Penalties(kl=1.0, estimator=None), **LONG))
    _, far = run("grpo", tmp_path / "far", settings(kl=1e-9, **LONG))
    assert divergence(near) < divergence(far) / 2


def test_entropy_is_kept_up_by_its_bonus(tmp_path):
    asked = settings(steps=15, penalties=Penalties(entropy=1.0))
    _, kept = run("grpo", tmp_path / "kept", asked)
    _, plain = run("grpo", tmp_path / "plain", settings(steps=15))
    assert kept.steps[-1].metrics["rl/entropy"] > plain.steps[-1].metrics["rl/entropy"]


def test_a_budget_of_divergence_ends_the_run(tmp_path):
    _, result = run("grpo", tmp_path, settings(steps=30, kl_budget=0.5))
    assert len(result.steps) < 30
    assert "over the budget of 0.5" in result.ended


def test_a_limit_on_the_cost_is_held_and_its_multiplier_is_in_the_checkpoint(tmp_path):
    """The cost is the reward itself, whose mean may be 0.3, below where it starts: the multiplier grows, and the reward falls."""
    cost = ByFunction("cost", odd)
    multiplier = Multiplier(limit=0.3, rate=1.0)
    asked = settings(steps=25, group=8, prompts_per_step=6, prompts_per_update=6)
    _, result = run("grpo", tmp_path, asked, judged=judges(cost=cost, multiplier=multiplier))
    first, last = result.steps[0].metrics, result.steps[-1].metrics
    assert last["multiplier"] > first["multiplier"] > 1
    assert last["cost"] < first["cost"]
    # Gone on with, it begins where it was.
    _, more = run("grpo", tmp_path, replace(asked, steps=26), judged=judges(cost=cost, multiplier=multiplier))
    expected = math.log(last["multiplier"])
    assert abs(math.log(more.steps[-1].metrics["multiplier"]) - expected) < 1.0


def test_rows_beside_are_learned_too(tmp_path):
    """InstructGPT's ptx: what a written answer costs falls, which the reward says nothing of."""
    method = method_named("grpo", N_NEW, {})
    learner, prompts = problem(method)
    trees = [Tree(prompts[0].ids, ((40, 41, 42, 1),)), Tree(prompts[1].ids, ((43, 41, 1),))]
    result = fit_online(learner, method, judges(), prompts, settings(steps=15), tmp_path, Silent(), Kept(trees, 2, 1.0))
    costs = [log.metrics["ptx/nll"] for log in result.steps]
    assert costs[-1] < costs[0] / 2


def test_states_of_rows_beside_follow_those_of_a_step():
    one, other = torch.zeros(2, 4), torch.ones(3, 4)
    both = FrozenStates(1, {0: one}, {}).followed_by(FrozenStates(1, {0: other}, {}), 5)
    assert both.first_layer == 1
    assert set(both.entering) == {0, 5}
    assert both.entering[5] is other
    assert FrozenStates(1, {0: one}, {}).followed_by(FrozenStates(2, {0: other}, {}), 5) is NOTHING_FROZEN
    assert NOTHING_FROZEN.followed_by(NOTHING_FROZEN, 5) is NOTHING_FROZEN


def test_rows_beside_are_learned_the_same_from_their_frozen_states(tmp_path, monkeypatch):
    """Adapters on the upper layer alone: the kept rows' states that enter it are computed once a run, or in every step."""
    losses, layers = [], []

    def mixture(trees, kinds, parts, states):
        layers.append(states.first_layer)
        return Mixture(trees, kinds, parts, states)

    monkeypatch.setattr(online, "Mixture", mixture)
    for name in ("once", "each step"):
        method = method_named("grpo", N_NEW, {})
        learner, prompts = problem(method, first_layer=1)
        trees = [Tree(prompts[0].ids, ((40, 41, 42, 1),)), Tree(prompts[1].ids, ((43, 41, 1),))]
        kept = Kept(trees, 2, 1.0)
        if name == "once":
            kept = replace(kept, states=freeze_states(learner.model, trees, 1, [False] * 2, tmp_path, Silent()))
            assert kept.states.first_layer == 1
        result = fit_online(learner, method, judges(), prompts, settings(steps=3), tmp_path / name, Silent(), kept)
        losses.append([log.loss for log in result.steps])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert layers == [1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("scale", "name", "warned"), [(1e-3, "ppo", True), (10.0, "ppo", False), (1e-3, "grpo", False)]
)
def test_a_penalty_that_is_larger_than_the_reward_is_said(scale, name, warned, tmp_path):
    """Not of GRPO, whose advantages are in units of their own deviation."""

    class Heard(Silent):
        def say(self, line):
            told.append(line)

    told = []
    method = method_named(name, N_NEW, {})
    learner, prompts = problem(method)
    fit_online(learner, method, judges(lambda t: scale * odd(t)), prompts, settings(steps=2, kl=0.1), tmp_path, Heard())
    assert sum("a nat costs 0.1" in line for line in told) == warned


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_what_is_reinforced_is_what_was_sampled_at_its_temperature(temperature, tmp_path):
    """Engine and learner agree at any temperature, in several passes and with the divergence over the whole vocabulary."""
    asked = settings(
        steps=2, sampling=Sampling(N_NEW, temperature), penalties=Penalties(kl=0.1, estimator=None), passes=2
    )
    _, result = run("grpo", tmp_path, asked)
    assert result.steps[0].metrics["rl/mismatch"] < 1e-5


def test_train_08_a_token_without_a_log_probability_is_named(tmp_path):
    """A recorded rollout with null in a slot: not hidden, and not a crash."""
    run("grpo", tmp_path / "whole", settings(steps=1))
    path = step_file(tmp_path / "whole", 0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["logps"][0] = None
    target = step_file(tmp_path / "again", 0)
    target.parent.mkdir(parents=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"step-00000.jsonl:1: answer '0/p\d/0' has no log-probability at position 0"):
        run("grpo", tmp_path / "again", settings(steps=1))


def test_a_watcher_is_shown_and_does_not_train(tmp_path):
    watcher = ByFunction("watcher", lambda t: -odd(t))
    watched, result = run("grpo", tmp_path / "watched", judged=judges(watcher=watcher))
    plain, _ = run("grpo", tmp_path / "plain")
    assert all(torch.equal(value, weights(plain)[key]) for key, value in weights(watched).items())
    for log in result.steps:
        assert log.metrics["score/watcher"] == pytest.approx(-log.metrics["reward"])


def test_several_rewards_are_added_with_their_weights():
    two = Weighted(((1.0, ByFunction("a", odd)), (0.5, ByFunction("b", lambda _: 4.0))))
    (both, none) = two.together(
        [{"a": Given(0.5), "b": Given(4.0)}, {"a": Given(0.5), "b": Given(None, "gone")}], [None, None]
    )
    assert both.value == 2.5
    assert (none.value, none.reason) == (None, "b: gone")
    assert two.name == "1 * a + 0.5 * b"


def test_repetition_by_hand():
    """1 2 1 2 1 2 has the runs of two 12 21 12 21 12: two of five are new."""
    assert repetition([1, 2, 1, 2, 1, 2], 2) == pytest.approx(3 / 5)
    assert repetition([1, 2, 3], 4) is None
    assert repetition([1, 2, 3, 4], 4) == 0
