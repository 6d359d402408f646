"""Training runs on comparisons and marked answers, whole, on the tiny model and on text."""

import gzip
import json
import os
from pathlib import Path

import pytest
import torch
from command_line import accord

from accord.data.checks import read_comparisons
from accord.errors import DataError, InputError, SettingsError
from accord.models.chat import ChatFormat
from accord.models.load import load_model
from accord.models.reward import load_reward_model, score_answers
from accord.models.tree import Tree
from accord.recipes.conversation_run import run_conversations
from accord.recipes.held_out import measure, preference_accuracy, unlike_training
from accord.recipes.preference_run import implicit_rewards, run_preferences
from accord.recipes.ranked import MOST_ANSWERS, harm_trees, ranked_trees
from accord.recipes.reward_run import run_reward
from accord.recipes.settings import TrainingSettings
from accord.recipes.training import pair_objective, pair_trees
from accord.recipes.unpaired_run import run_kto
from accord.scorers.labels import LabelledAnswer, read_labels
from accord.types import Comparison, Message, Silent

WORDS = ["water", "harbour", "gate", "lamp", "stone", "river", "bridge", "letter", "garden", "window"]


def comparisons(path, n, start=0, **more):
    """Pairs of which the better answer says where a thing is, the worse one does not."""
    rows = [
        {
            "prompt": f"Question {start + i}: where is the {WORDS[(start + i) % 10]} of {WORDS[(start + 3 * i) % 10]}?",
            "chosen": f"It is in the {WORDS[(start + i + 1) % 10]}.",
            "rejected": "what what what",
            **{key: value(i) if callable(value) else value for key, value in more.items()},
        }
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(folder, **more):
    return TrainingSettings(model=str(folder), precision="fp32", rank=4, **{"learning_rate": 2e-2, **more})


@pytest.mark.parametrize("objective", ["dpo", "simpo", "ipo", "dpo_norm", "orpo"])
def test_an_objective_on_pairs_learns_and_measures_held_out_pairs(tmp_path, tiny_folder, objective):
    data, dev = comparisons(tmp_path / "train.jsonl", 16), comparisons(tmp_path / "dev.jsonl", 12, start=700)
    out = tmp_path / "run"
    facts, held_out = run_preferences(data, dev, out, objective, {}, settings(tiny_folder, epochs=4), False, Silent())
    assert facts["steps"] == 8
    assert facts["skipped steps"] == 0
    first = next(iter(held_out.accuracy))
    assert first == f"{objective} (implicit reward)"
    assert held_out.accuracy[first].value >= 0.75
    assert {"base model (log-probability)", "longer answer preferred"} <= set(held_out.accuracy)
    n_calibrated = sum(b.observed.n for b in held_out.calibration)
    assert n_calibrated == (held_out.accuracy[first].n if objective == "dpo" else 0)
    assert (out / "model" / "adapter_model.safetensors").exists()
    assert json.loads((out / "manifest.json").read_text())["reference"].startswith("the starting model")
    # Asked again, nothing is trained; asked with another option, it is refused.
    again, _ = run_preferences(data, dev, out, objective, {}, settings(tiny_folder, epochs=4), False, Silent())
    assert again["seconds"] == facts["seconds"]
    with pytest.raises(InputError, match="holds another run"):
        run_preferences(data, dev, out, objective, {}, settings(tiny_folder, epochs=5), False, Silent())


def test_an_objective_without_a_reference_computes_none(tmp_path, tiny_folder):
    data, out = comparisons(tmp_path / "train.jsonl", 8), tmp_path / "run"
    run_preferences(data, None, out, "simpo", {"beta": 2.0, "gamma": 0.5}, settings(tiny_folder), False, Silent())
    assert not list(out.rglob("reference.safetensors"))
    assert json.loads((out / "manifest.json").read_text())["asked"]["gamma"] == 0.5


@pytest.mark.parametrize(
    ("name", "chosen", "rejected"),
    [
        ("dpo", -0.1, 0.0),  # 0.1 * (-10 + 9), 0.1 * (-6 + 6)
        ("dpo_norm", -1.0, 0.0),  # 5 * -1 / 5
        ("ipo", -0.02, 0.0),  # 0.1 * -1 / 5
        ("simpo", -4.0, -6.0),  # 2 * -10 / 5, 2 * -6 / 2
        ("orpo", -0.2, -0.3),  # 0.1 * -10 / 5, 0.1 * -6 / 2
        ("cpo", -1.0, -0.6),  # 0.1 * -10, 0.1 * -6
    ],
)
def test_held_out_rewards_are_the_objectives_own(name, chosen, rejected):
    """Chosen -10 over 5 tokens against the reference's -9, rejected -6 over 2 tokens against -6."""
    trees = [Tree((0,), ((1,) * 5, (2,) * 2))]
    logps, ref_logps = torch.tensor([[-10.0, -6.0]]), torch.tensor([[-9.0, -6.0]])
    rewards = implicit_rewards(pair_objective(name), trees, logps, ref_logps)
    assert rewards.tolist() == [pytest.approx([chosen, rejected])]


class Heard(Silent):
    """A `Progress` that keeps what is said, and the last step's loss."""

    def __init__(self):
        self.lines, self.loss = [], None

    def say(self, line):
        self.lines.append(line)

    def measure(self, stage, step, values):
        self.loss = values["loss"]


def test_rows_without_a_preference_keep_the_error_rate_and_who_ignores_preferences_says_so(tmp_path, tiny_folder):
    """An error rate of 0.4 makes the second step's loss higher, by every row that has no preference of its own."""
    data, heard = tmp_path / "train.jsonl", Heard()
    asked, losses = settings(tiny_folder, epochs=2), []
    for n_rated in (4, 2, 0):
        comparisons(data, 4, preference=lambda i, n_rated=n_rated: 1.0 if i < n_rated else None)
        out = tmp_path / f"rated-{n_rated}"
        run_preferences(data, None, out, "soft_dpo", {"label_error": 0.4}, asked, False, heard)
        losses.append(heard.loss)
    assert losses[0] < losses[1] < losses[2]
    assert heard.lines == []
    comparisons(data, 4, preference=lambda i: 0.8 if i else None)
    run_preferences(data, None, tmp_path / "dpo", "dpo", {}, settings(tiny_folder), False, heard)
    (line,) = heard.lines
    assert line.startswith("3 of 4 rows")
    assert "soft-dpo" in line


def test_a_reward_model_learns_is_measured_and_read_back(tmp_path, tiny_folder):
    data, dev = comparisons(tmp_path / "train.jsonl", 16), comparisons(tmp_path / "dev.jsonl", 12, start=700)
    out = tmp_path / "run"
    facts, held_out = run_reward(data, dev, out, 0.0, 0.0, False, settings(tiny_folder, epochs=4), False, Silent())
    assert facts["prompts"] == 16
    accuracy = held_out.accuracy["reward"]
    assert accuracy.value >= 0.75
    assert list(held_out.accuracy) == [
        "reward",
        "base model (log-probability)",
        "base model (log-probability a token)",
        "longer answer preferred",
        "shorter answer preferred",
    ]
    assert sum(e.n for e in held_out.slices.values()) == accuracy.n
    loaded = load_reward_model(str(out), "fp32")
    pairs = unlike_training(read_comparisons(dev).comparisons, read_comparisons(data).comparisons, "pair")
    scores = torch.stack(score_answers(loaded.model, pair_trees(ChatFormat(loaded.tokenizer), pairs)))
    assert preference_accuracy(scores) == accuracy


def test_a_fully_trained_reward_model_is_a_whole_folder(tmp_path, tiny_folder):
    data, out = comparisons(tmp_path / "train.jsonl", 8), tmp_path / "run"
    run_reward(
        data, None, out, 0.01, 0.0, False, settings(tiny_folder, method="full", learning_rate=1e-3), False, Silent()
    )
    model = load_reward_model(str(out / "model"), "fp32").model
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert model.score.weight.abs().max() > 0


def test_comparisons_of_one_group_are_one_tree_with_each_answer_once(tiny_model):
    chat, ask = ChatFormat(tiny_model.tokenizer), (Message("user", "Where is it?"),)
    rows = [
        Comparison("1", ask, "a", "b", group_id="g", strength=1.0),
        Comparison("2", ask, "a", "c", group_id="g", preference=0.8),
        Comparison("3", ask, "b", "c", group_id="g"),
        Comparison("4", ask, "x", "y"),
    ]
    trees, rankings, ids = ranked_trees(chat, rows, margin=0.5)
    assert ids == ["1", "4"]
    assert [len(t.answers) for t in trees] == [3, 2]
    assert rankings[0].pairs == ((0, 1), (0, 2), (1, 2))
    assert rankings[0].margins == (0.5, 0.0, 0.0)
    assert rankings[0].preferences == (1.0, 0.8, 1.0)
    assert rankings[0].safe == ()
    with pytest.raises(DataError, match="another prompt"):
        ranked_trees(chat, [rows[0], Comparison("5", (Message("user", "Else?"),), "a", "b", group_id="g")])


def test_a_cost_model_ranks_the_more_harmful_answer_higher_and_needs_labels(tiny_model):
    chat, ask = ChatFormat(tiny_model.tokenizer), (Message("user", "Where is it?"),)
    labelled = Comparison("1", ask, "good", "bad", chosen_safe=True, rejected_safe=False)
    _, (ranking,), _ = ranked_trees(chat, [labelled], cost=True)
    assert ranking.pairs == ((1, 0),)
    assert ranking.safe == (True, False)
    with pytest.raises(DataError, match="needs 'chosen_safe' and 'rejected_safe'"):
        ranked_trees(chat, [Comparison("2", ask, "good", "bad")], cost=True)


def test_a_cost_models_held_out_accuracy_is_that_of_the_less_harmful(tmp_path, tiny_folder):
    labels = {"chosen_safe": True, "rejected_safe": False}
    data = comparisons(tmp_path / "train.jsonl", 16, **labels)
    dev = comparisons(tmp_path / "dev.jsonl", 12, start=700, **labels)
    _, held_out = run_reward(
        data, dev, tmp_path / "run", 0.0, 0.0, True, settings(tiny_folder, epochs=4), False, Silent()
    )
    assert held_out.accuracy["cost"].value >= 0.75


def harm_scores(path, n, start=0):
    """Answers that people scored: "bad" ones harmful, "good" ones not; every third prompt has one answer alone."""
    prompts = [row["prompt"] for row in map(json.loads, comparisons(path, n, start).read_text().splitlines())]
    rows = [
        {"objective": prompt, "response": f"It is {word} in the {WORDS[i % 10]}.", "human_scores": scores}
        for i, prompt in enumerate(prompts)
        for word, scores in (("good", [0.0, 0.25]), ("bad", [0.75, 1.0]))
        if i % 3 or word == "bad"
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_with_a_score_of_harm_are_ranked_and_have_a_border(tmp_path, tiny_model):
    path = tmp_path / "harm.jsonl"
    rows = [
        ("a", "one", [0.5]),
        ("a", "two", [0.0, 0.25]),
        ("a", "three", [1.0]),
        ("a", "two", [0.75]),
        ("b", "x", [0.25]),
    ]
    path.write_text("".join(json.dumps({"objective": p, "response": r, "human_scores": h}) + "\n" for p, r, h in rows))
    trees, rankings, ids = harm_trees(ChatFormat(tiny_model.tokenizer), read_labels(path, "harm"))
    assert ids == ["a", "b"]
    assert [len(t.answers) for t in trees] == [3, 1]
    # "two" was called 0.125 and 0.75: 0.4375 on average, below one half.
    assert rankings[0].pairs == ((0, 1), (2, 0), (2, 1))
    assert rankings[0].safe == (False, True, False)
    assert (rankings[1].pairs, rankings[1].safe) == ((), (True,))
    many = [LabelledAnswer("a", str(i), "yes" if i % 2 else "no") for i in range(MOST_ANSWERS + 3)]
    rows = harm_trees(ChatFormat(tiny_model.tokenizer), many)
    assert [len(t.answers) for t in rows.trees] == [MOST_ANSWERS, 3]
    assert rows.ids == ["a", "a"]
    assert rows.rankings[1].pairs == ((1, 0), (1, 2))


def test_a_cost_model_learns_a_border_from_scores_of_harm(tmp_path, tiny_folder):
    data, dev = harm_scores(tmp_path / "train.jsonl", 24), harm_scores(tmp_path / "dev.jsonl", 12, start=700)
    asked = settings(tiny_folder, epochs=6)
    for centring, margin, cost, message in (
        (0.0, 0.0, False, "give --cost"),
        (0.1, 0.0, True, "--centring"),
        (0.0, 1.0, True, "--margin"),
    ):
        with pytest.raises(SettingsError, match=message):
            run_reward(data, dev, tmp_path / "run", centring, margin, cost, asked, False, Silent())
    facts, held_out = run_reward(data, dev, tmp_path / "run", 0.0, 0.0, True, asked, False, Silent())
    assert facts["answers"] == "40 to 24 prompts, harmful: 24"
    # One prompt nearly equals one of training's: it is left out, and its two answers.
    assert facts["held-out answers"].startswith("18 to 11 prompts")
    assert held_out.borders["on the right side of 0"].n == 18
    assert held_out.borders["on the right side of 0"].value >= 0.8
    pairs = held_out.accuracy["cost, mean of each prompt's pairs"]
    assert (pairs.n, pairs.n_unscored) == (7, 4)
    # Gone on with, what was measured is read back.
    (scores,) = (tmp_path / "run").rglob("held-out-scores.safetensors")
    before = scores.stat().st_mtime_ns
    assert run_reward(data, dev, tmp_path / "run", 0.0, 0.0, True, asked, False, Silent())[1] == held_out
    assert scores.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="nothing is left to measure on"):
        run_reward(data, data, tmp_path / "other", 0.0, 0.0, True, asked, False, Silent())


def test_kto_takes_pairs_apart_and_learns(tmp_path, tiny_folder):
    data, out = comparisons(tmp_path / "train.jsonl", 12), tmp_path / "run"
    facts = run_kto(data, out, 0.1, 1.0, 1.0, settings(tiny_folder, epochs=3, rows_per_step=8), False, Silent())
    assert (facts["desirable"], facts["undesirable"], facts["steps"]) == (12, 12, 9)
    assert load_model(str(out), "fp32").model is not None


def test_kto_takes_rows_that_fit_whose_prompts_do_not_fit_with_each_others_answers(tmp_path, tiny_folder):
    """Two rows of more than 400 tokens in a window of 512, by its prompt the one, by its answer the other."""
    words = "is " * 400
    rows = [
        {"prompt": f"what {words}", "completion": "water", "label": True},
        {"prompt": "where", "completion": words, "label": False},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    facts = run_kto(tmp_path / "rows.jsonl", out, 0.1, 1.0, 1.0, settings(tiny_folder), False, Silent())
    assert (facts["steps"], facts["skipped steps"]) == (1, 0)


def test_slices_by_length_and_strength_by_hand():
    """Scores prefer the chosen answer of the first two rows only.

    Lengths: 1 against 4 characters (at most half), 3 against 4 (shorter), 8 against 4 (twice as long), 4 against 4.
    """
    ask = (Message("user", "q"),)
    texts = [("a", "bbbb"), ("aaa", "bbbb"), ("a" * 8, "bbbb"), ("aaaa", "bbbb")]
    strengths = (0.1, 0.5, 0.9, None)
    rows = [Comparison(f"{w} {r}", ask, w, r, strength=s) for (w, r), s in zip(texts, strengths, strict=True)]
    held_out = measure(rows, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]), {}, "scores")
    found = {name: (e.value, e.n) for name, e in held_out.slices.items()}
    assert found == {
        "chosen at most half as long": (1.0, 1),
        "chosen shorter": (1.0, 1),
        "chosen as long or longer": (0.0, 1),
        "chosen at least twice as long": (0.0, 1),
        "slight preference (strength below 1/3)": (1.0, 1),
        "clear preference": (1.0, 1),
        "strong preference (2/3 and above)": (0.0, 1),
    }
    assert held_out.accuracy["longer answer preferred"].value == pytest.approx(1 / 3)
    assert held_out.accuracy["longer answer preferred"].n_unscored == 1
    # Sure by s(1) = 0.7311 three times and right twice, by s(2) = 0.8808 once and wrong: (3 * |2/3 - 0.7311| + 0.8808) / 4.
    assert held_out.calibration_error == pytest.approx(0.2685, abs=1e-3)


@pytest.mark.skipif("ACCORD_TEST_DATA" not in os.environ, reason="ACCORD_TEST_DATA names no folder of public data")
def test_accord_train_reward_on_real_comparisons(tmp_path):
    """40 pairs of hh-rlhf on the starter model, through the command line."""
    source = Path(os.environ["ACCORD_TEST_DATA"]) / "hh-rlhf"
    with gzip.open(source / "harmless-base.train.jsonl.gz", "rt") as file:
        short = [line for line in file if len(line) < 900]
    (tmp_path / "train.jsonl").write_text("".join(short[:16]))
    (tmp_path / "dev.jsonl").write_text("".join(short[40:56]))
    done = accord(
        *("train", "reward", tmp_path / "train.jsonl", "--dev", tmp_path / "dev.jsonl", "--out", tmp_path / "run"),
        *("--layers", "20-", "--drop", "--json"),
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["steps"] == 2
    assert result["accuracy"]["reward"]["n"] >= 8


def conversations(path, n, start=0):
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Question {start + i}: where is the {WORDS[(start + i) % 10]}?"},
                {"role": "assistant", "content": f"It is in the {WORDS[(start + i + 1) % 10]}."},
            ]
        }
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("first_layer", [0, 1])
def test_sft_on_conversations_makes_held_out_answers_likelier(tmp_path, tiny_folder, first_layer):
    data, dev = conversations(tmp_path / "train.jsonl", 20), conversations(tmp_path / "dev.jsonl", 10, start=700)
    out = tmp_path / "run"
    asked = settings(tiny_folder, epochs=4, first_layer=first_layer)
    facts, costs = run_conversations(data, dev, out, asked, Silent())
    assert (facts["conversations"], facts["steps"], facts["skipped steps"]) == (20, 12, 0)
    assert facts["supervised tokens"] < facts["tokens"]
    assert costs["sft"].n == costs["base model"].n == 10
    assert costs["sft"].high < costs["base model"].low
    again, same = run_conversations(data, dev, out, asked, Silent())
    assert (again["last loss"], same["sft"].value) == (facts["last loss"], costs["sft"].value)
    assert (out / "model" / "adapter_config.json").exists()


def test_sft_is_not_measured_on_conversations_that_it_learned(tmp_path, tiny_folder):
    """Ten held-out rows and three of training's, in other letters; of training's alone nothing is left."""
    data, dev = conversations(tmp_path / "train.jsonl", 20), conversations(tmp_path / "dev.jsonl", 10, start=700)
    again = conversations(tmp_path / "again.jsonl", 3).read_text()
    dev.write_text(again.replace("Question", "question") + dev.read_text())
    facts, costs = run_conversations(data, dev, tmp_path / "run", settings(tiny_folder), Silent())
    assert facts["held-out conversations"] == "10, near-duplicates of training left out: 3"
    assert costs["sft"].n == costs["base model"].n == 10
    with pytest.raises(DataError, match="every held-out conversation's prompt nearly equals"):
        run_conversations(data, tmp_path / "again.jsonl", tmp_path / "other", settings(tiny_folder), Silent())
    assert not (tmp_path / "other").exists()


def test_sft_learns_the_answers_tokens_alone_and_only_the_last_ones(tmp_path, tiny_folder):
    """The supervised tokens are the last answer's and its end; an earlier answer is context."""
    chat = ChatFormat(load_model(str(tiny_folder), "fp32").tokenizer)
    turns = [
        {"role": role, "content": text}
        for role, text in (("user", "a b"), ("assistant", "c d e"), ("user", "f"), ("assistant", "g h"))
    ]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    facts, costs = run_conversations(tmp_path / "rows.jsonl", None, tmp_path / "run", settings(tiny_folder), Silent())
    assert facts["supervised tokens"] == len(chat.answer("g h"))
    assert costs == {}


def test_conversations_that_cannot_be_learned_are_refused_with_their_line(tmp_path, tiny_folder):
    turn = {"role": "user", "content": "hello?"}
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [turn]}) + "\n")
    with pytest.raises(DataError, match=r"rows\.jsonl:1: no answer"):
        run_conversations(tmp_path / "rows.jsonl", None, tmp_path / "run", settings(tiny_folder), Silent())
    assert not (tmp_path / "run").exists()
