"""The best of several answers: what is chosen, what it is worth, what watches."""

import json

import pytest
from command_line import accord
from opposed import MINE

from accord.data.examples import read_examples
from accord.errors import DataError
from accord.recipes import best_of_n
from accord.recipes.best_of_n import BEST, BestAsked, learned_text, measured, run_best_of_n
from accord.report.best_of_page import BestOf, BestPoint, told
from accord.train.samples import Sample, read_samples
from accord.types import Estimate, Silent

NONE = """
def none(transcript):
    return None
"""


@pytest.fixture
def given(tmp_path):
    """A file of prompts, and the names of two rewards that are each other's opposite."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(
        "".join(json.dumps({"prompt": f"where is the {w}?"}) + "\n" for w in ("harbour", "water", "user"))
    )
    mine = tmp_path / "mine.py"
    mine.write_text(MINE + NONE)
    return prompts, str(mine)


def test_the_best_is_kept_and_what_choosing_is_worth_is_measured(given, tmp_path, tiny_folder, monkeypatch):
    # The tiny model says no sentences.
    monkeypatch.setattr(best_of_n, "whole_sentences", str)
    prompts, mine = given
    out = tmp_path / "run"
    asked = BestAsked(str(tiny_folder), (f"{mine}:odd",), f"{mine}:even", 6, 8, precision="fp32")
    facts, found = run_best_of_n(prompts, out, asked, Silent())
    assert (facts["answers"], facts["answers without a score"]) == (18, "none")
    assert [p.k for p in found.points] == [1, 2, 4, 6]
    gains = [p.reward.value for p in found.points]
    assert gains[0] == 0
    assert gains == sorted(gains)
    assert gains[-1] > 0.05
    for p in found.points:
        assert p.reward.n == 3
        assert p.watcher.value == pytest.approx(-p.reward.value)
    # What is kept can be learned, and is the best of what was sampled.
    kept = read_examples(out / BEST)
    assert kept.kind == "conversations"
    samples = [s for path in sorted((out / "answers").iterdir()) for s in read_samples(path)]
    name = found.reward
    for example in kept.examples:
        own = [s for s in samples if learned_text(s) == example.answers[0]]
        best = [max(t.scores[name] for t in samples if t.prompt == s.prompt) for s in own]
        assert any(s.scores[name] == b for s, b in zip(own, best, strict=True))
    page = (out / "report.html").read_text()
    assert "What choosing is worth" in page
    # Gone on with, nothing is sampled again.
    before = (out / "answers" / "0000.jsonl").stat().st_mtime_ns
    assert run_best_of_n(prompts, out, asked, Silent())[1] == found
    assert (out / "answers" / "0000.jsonl").stat().st_mtime_ns == before


def test_what_is_measured_where_scores_are_missing_and_what_is_written():
    """Prompt a: rewards 1, 3 and one without; b: 2 alone. The watcher gives a's answers 5 and none."""

    def sample(reward, watched, text="It is here. And", truncated=False):
        scores = {"r": reward, "w": watched}
        return Sample("p", "k", 0, (1,), (-1.0,), truncated, text, scores, {}, reward)

    groups = [[sample(1.0, 5.0), sample(3.0, None)], [sample(2.0, 1.0)]]
    found = measured(groups, "r", "w", BestAsked("m", ("r",), "w", group=2))
    one, two = found.points
    assert (one.reward.value, one.reward.n, one.reward.unscored) == (0.0, 2, {})
    # The best of a's two is 3, one of them 2 on average.
    assert (two.reward.value, two.reward.n) == (1.0, 1)
    assert two.reward.unscored == {"prompts with fewer than 2 scored answers": 1}
    assert (two.watcher.value, two.watcher.n_unscored) == (None, 2)
    assert "is not measured" in told(found)
    assert learned_text(sample(1.0, 1.0, truncated=True)) == "It is here."
    assert learned_text(sample(1.0, 1.0)) == "It is here. And"


def test_answers_without_a_score_are_no_choice(given, tmp_path, tiny_folder):
    prompts, mine = given
    with pytest.raises(DataError, match="not one of 6 answers could be scored"):
        run_best_of_n(
            prompts,
            tmp_path / "run",
            BestAsked(str(tiny_folder), (f"{mine}:none",), "", 2, 4, precision="fp32"),
            Silent(),
        )


def test_what_the_page_says():
    def of(*watched):
        points = [
            BestPoint(2**i, 0.1 * i, Estimate(i, i - 1, i + 1, 9, "mean"), Estimate(low + 1, low, low + 2, 9, "mean"))
            for i, low in enumerate(watched)
        ]
        return BestOf("m", "r", "w", tuple(points), 1.0, 1.0)

    assert "rates the best of 4 higher too" in told(of(-1.0, 0.5, 1.0))
    assert "does not show whether the best of 4" in told(of(-1.0, 0.5, -1.5))
    assert "it is highest at the best of 2" in told(of(-1.0, 0.5, -1.5))
    assert "no longer true" in told(of(-1.0, 0.5, -3.0))
    assert "Nothing watched" in told(BestOf("m", "r", "", of(0.0).points, 1.0, None))


def test_the_verb(given, tmp_path, tiny_folder):
    prompts, mine = given
    done = accord(
        "train", "best-of-n", prompts, "--model", tiny_folder, "--precision", "fp32", "--reward", f"{mine}:odd", "--group", "2",
        "--max-new-tokens", "4", "--out", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "best of 2, 0.19 nats at most" in done.stdout
    assert "Nothing watched" in done.stdout
