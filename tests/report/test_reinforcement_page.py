"""The page of a reinforced model: what it says first, hostile text, and nothing measured."""

import math
import random
import re
from dataclasses import replace

import pytest

from accord.report.reinforcement import (
    Reinforcement,
    Rewarded,
    headline,
    length_against_reward,
    told,
    warnings,
    watched,
)
from accord.report.reinforcement_page import view, write_reinforcement
from accord.train.samples import Sample
from accord.train.watch import StepLog, turned_down
from accord.types import Estimate


def sample(prompt, k, reward, tokens=4, text="an answer", truncated=False):
    scores = {"rm": reward, "watcher": None if reward is None else reward / 2}
    unscored = {"rm": "gone", "watcher": "gone"} if reward is None else {}
    return Sample(
        prompt, f"{prompt}/{k}", 0, tuple(range(tokens)), (-1.0,) * tokens, truncated, text, scores, unscored, reward
    )


def log(step, reward, watcher, **more):
    metrics = {
        "reward": reward,
        "score/rm": reward,
        "score/watcher": watcher,
        "tokens": 20.0,
        "rl/kl": 0.1 * step,
        **more,
    }
    return StepLog(step, 0.0, metrics)


def run(**more):
    answers = [sample(f"p{i}", k, 0.1 * i + 0.5 * k, tokens=5 + k) for i in range(6) for k in range(4)]
    given = {
        "title": "grpo on 6 prompts", "method": "grpo", "model": "starter", "reward": "rm", "rewards": ["rm"], "watcher": "watcher",
        "cost": "", "n_prompts": 6, "n_steps_asked": 30, "steps": [log(k, 0.1 * k, 0.05 * k) for k in range(30)], "ended": "",
        "seconds": 60.0, "first": [replace(s, reward=0.0) for s in answers], "last": answers,
        "prompts": {f"p{i}": f"[user] question {i}" for i in range(6)},
    }  # fmt: skip
    return Reinforcement(**{**given, **more})


def test_the_page_says_what_was_watched(tmp_path):
    page = write_reinforcement(run(), tmp_path / "report.html").read_text()
    assert "which never trains" in page
    assert re.search(r'<th scope="row">watcher</th>\s*<td><span class="main">0.500', page)
    assert page.count("<figure>") == 3
    assert "Worth most" in page
    assert "question 5" in page
    assert "http:" not in page
    assert "<script" not in page


def test_hostile_text_stays_text(tmp_path):
    answers = [sample("p0", k, float(k), text="<script>alert(1)</script>\x1b[31m") for k in range(3)]
    page = write_reinforcement(run(last=answers, prompts={"p0": "<b>bold</b>"}), tmp_path / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<b>bold" not in page
    assert "\x1b" not in page


def test_nothing_scored_is_said_and_no_number_stands_for_it(tmp_path):
    answers = [sample("p0", k, None) for k in range(3)]
    page = write_reinforcement(run(first=answers, last=answers, steps=[]), tmp_path / "report.html").read_text()
    assert "No answer has a reward" in page
    assert "not measured" in page
    assert "Too few steps to draw" in page
    assert headline(run(first=answers, last=answers)) == "No answer at the run's beginning or end could be scored."


def test_what_must_be_read_first():
    assert warnings(run()) == ()
    last = log(30, 1.0, 0.5, truncated=0.9, repetition=0.4, flat_groups=0.8, unscored=0.2)
    said = " ".join(warnings(run(steps=[last], ended="answers are 20.0 nats away")))
    for words in (
        "ended after 1 of 30 steps: answers are 20.0 nats away",
        "90% of the answers were cut",
        "repeats itself: 40%",
        "all answers to 80% of the prompts were worth the same",
        "20% of the answers could not be scored",
    ):
        assert words in said


def test_without_a_watcher_the_page_says_that_nothing_watched():
    assert "no second reward model watched" in headline(run(watcher=""))
    assert "no second reward model" not in headline(run())


def test_length_against_reward_is_taken_within_prompts():
    """The longer of each prompt's answers is worth more, and prompts differ the other way round."""
    answers = [sample(f"p{i}", k, -i + 0.1 * k, tokens=4 * i + k + 1) for i in range(5) for k in range(3)]
    assert length_against_reward(answers).value == pytest.approx(1)


def test_a_reward_that_counts_tokens_is_said_first():
    answers = [sample(f"p{i}", k, k + 0.3 * (-1) ** (i + k), tokens=5 + k) for i in range(9) for k in range(4)]
    assert warnings(run(last=answers))[0].startswith("Longer answers have the higher reward (r = 0.9")


def test_a_reward_that_likes_them_short_is_said_too():
    answers = [sample(f"p{i}", k, -k + 0.3 * (-1) ** (i + k), tokens=5 + k) for i in range(9) for k in range(4)]
    assert warnings(run(last=answers))[0].startswith("Shorter answers have the higher reward (r = -0.9")


def test_the_headline_tells_each_of_several_rewards_and_the_divergence():
    """Llama 2's combination has a mean of 0 at each step: what it is made of is told."""
    assert "the reward went from" in headline(run())
    assert "at 2.9 nats an answer" in headline(run())
    said = headline(run(rewards=["rm", "watcher"]))
    assert "rm went from" in said
    assert " and watcher went from" in said


def test_what_is_watched_has_prompts_for_its_units():
    """Two prompts of two answers, rewards 0, 2 and 1, 5: means 1 and 3, whose mean is 2."""
    answers = [sample("a", 0, 0.0), sample("a", 1, 2.0), sample("b", 0, 1.0), sample("b", 1, 5.0), sample("b", 2, None)]
    rm = watched(run(last=answers))[0]
    assert (rm.name, rm.last.value, rm.last.n, dict(rm.last.unscored)) == ("rm", 2, 2, {"gone": 1})
    cut = {w.name: w for w in watched(run(last=[sample("a", k, 1.0, truncated=k < 3) for k in range(4)]))}[
        "cut by the limit"
    ]
    assert (cut.is_share, cut.last.value) == (True, 0.75)


def rises(watcher):
    return [log(k, 0.1 * k, w) for k, w in enumerate(watcher)]


def test_the_watcher_turns_down_only_where_the_reward_does_not():
    up = [0.1 * k + 0.01 * (k % 2) for k in range(20)]
    down = up + [2.0 - 0.1 * k for k in range(1, 15)]
    assert not turned_down(rises(up), "score/watcher")
    assert turned_down(rises(down), "score/watcher")
    assert not turned_down(rises(down)[:12], "score/watcher")  # too few steps to tell
    both = [replace(x, metrics={**x.metrics, "reward": x.metrics["score/watcher"]}) for x in rises(down)]
    assert not turned_down(both, "score/watcher")
    assert not turned_down(rises(down), "score/nobody")


def test_a_watcher_that_never_changes_hardly_ever_turns_down():
    """Asked at each of 60 steps: with any ten steps as the best and two standard errors, 69 of 100 runs would end."""
    ended = 0
    for seed in range(40):
        rng = random.Random(seed)
        logs = rises([rng.gauss(0, 1) for _ in range(60)])
        ended += any(turned_down(logs[:n], "score/watcher") for n in range(20, 61))
    assert ended <= 3


def measured(low, high):
    e = Estimate((low + high) / 2, low, high, 10, "mean")
    return Rewarded(e, e, e, 1.0, 1.0)


def test_in_words():
    class Truth:
        reward, watcher = measured(0.1, 0.3), measured(0.2, 0.4)

    assert "so did the watcher's" in told(Truth)
    Truth.watcher = measured(-0.1, 0.3)
    assert "the watcher's is not shown" in told(Truth)
    Truth.reward = measured(-0.1, 0.3)
    assert "not shown to have risen" in told(Truth)
    Truth.reward = Rewarded(*[Estimate(None, None, None, 0, "mean")] * 3, 1.0, None)
    assert "cannot be said" in told(Truth)


def test_steps_without_a_value_are_left_out_of_the_curves():
    steps = [log(k, 0.1 * k, 0.05 * k) for k in range(5)]
    steps[2] = StepLog(2, math.nan, {"tokens": 3.0})
    assert view(run(steps=steps)).by_step is not None
