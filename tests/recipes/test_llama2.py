"""Llama 2's recipe, whole, on the tiny model and a few comparisons."""

from contextlib import asynccontextmanager

import pytest
from command_line import accord
from test_single_runs import comparisons

from accord.data.examples import read_examples
from accord.feedback.context_distillation import distil
from accord.models.load import load_model
from accord.models.sampling import Sampling
from accord.recipes import llama2
from accord.recipes.lesson import Lesson
from accord.recipes.llama2 import LlamaSettings, plan, read_material, run_llama2
from accord.report.llama2_page import headline
from accord.scorers.as_reward import ByFunction
from accord.types import Demonstration, Finding, Message, Outcome, Prompt, Score, Silent


@pytest.fixture
def settings(tmp_path, tiny_folder):
    files = [
        str(comparisons(tmp_path / f"{name}.jsonl", 6, start))
        for name, start in (("s", 0), ("sd", 500), ("h", 900), ("hd", 1400))
    ]
    small = {
        "rank": 2,
        "rejection_steps": 1,
        "steps": 1,
        "prompts_per_step": 4,
        "group": 2,
        "max_new_tokens": 8,
        "limit": 4,
    }
    return LlamaSettings(*files, str(tiny_folder), "fp32", **small, n_prompts=8, n_distilled=4, n_held_out=4)


def test_it_runs_whole_and_is_not_done_again(settings, tmp_path):
    material = read_material(settings)
    out = tmp_path / "run"
    facts, rounds = run_llama2(out, settings, material, Silent())
    assert [r.number for r in rounds] == [0, 1, 2]
    load_model(facts["model"])
    assert rounds[0].safety.difference.value == 0
    assert all(r.helpfulness.reward.n == 4 for r in rounds)
    assert headline(rounds) in (out / "report.html").read_text()
    again, same = run_llama2(out, settings, material, Silent())
    assert same == rounds
    assert again == facts


def test_what_a_round_found_is_answered_in_it_and_in_all_that_follow_and_ppo_has_a_budget(
    settings, tmp_path, monkeypatch
):
    """Round 2 finds `a` and something that may not be trained on, round 3 `a` again and `b`; round 4 nothing."""

    def found(id):
        goal = Prompt(f"goal-{id}", (Message("user", f"say {id}"),), "harmful", "fraud", f"fraud/{id}", "discover")
        sent = (Message("user", f"You are Moss. Say {id}."),)
        return Finding(id, goal, "Sure.", Score(Outcome.COMPLIED, "refusal"), "harmful-compliance", "m", sent=sent)

    by_round = {2: ("a", "barred"), 3: ("a", "b"), 4: ()}

    @asynccontextmanager
    async def nobody(*models):
        yield models

    async def lesson(store, ids, *_):
        learned = tuple(found(id) for id in ids if id != "barred")
        return Lesson(
            learned, tuple(Demonstration(f.prompt, "No.") for f in learned), (), 0, 0, len(ids) - len(learned)
        )

    runs = {}
    monkeypatch.setattr(llama2, "under_attack", lambda *_: ())
    monkeypatch.setattr(llama2, "keep", lambda *asked: tuple(found(id) for id in by_round[asked[-1]]))
    monkeypatch.setattr(llama2, "make_lesson", lesson)
    monkeypatch.setattr(llama2, "completers", nobody)
    monkeypatch.setattr(llama2, "run_sft", lambda *_: None)
    monkeypatch.setattr(llama2, "reward_deviation", lambda *_: 0.5)
    monkeypatch.setattr(
        llama2, "run_online", lambda name, prompts, out, asked, *_: runs.update({out: (prompts, asked.kl_budget)})
    )

    def go_on():
        """The prompts of each round, those of the comparisons first."""
        recipe = llama2._Recipe(tmp_path / "run", settings, read_material(settings), Silent())
        recipe._load = lambda _: None
        recipe._distilled = lambda _, model: model
        for number in (1, 2, 3, 4):
            recipe.round(number, "m")
        return [read_examples(runs[tmp_path / f"run/round-{n}/ppo"][0]).examples for n in (1, 2, 3, 4)]

    first, *later = rounds = go_on()
    assert len(first) == 8
    assert all(own[:8] == first for own in later)
    assert [[(e.id, e.label) for e in own[8:]] for own in rounds] == [
        [],
        [("a", "harmful")],
        [("a", "harmful"), ("b", "harmful")],
        [("a", "harmful"), ("b", "harmful")],
    ]
    assert later[0][8].messages == found("a").sent
    assert {out.name: budget for out, (_, budget) in runs.items()} == {"rejection": 0.0, "ppo": 15.0}
    assert go_on() == rounds


def test_the_plan_says_how_much_there_is(settings):
    told = "\n".join(plan(settings, read_material(settings)))
    assert "safety on 4, helpfulness on 4" in told
    assert (
        "2 rounds, each: 1 steps of rejection sampling and 1 of PPO, of 4 prompts, 2 answers each: 16 answers" in told
    )


def test_an_answer_under_the_preprompt_is_kept_only_where_its_reward_is_higher(tiny_model):
    """Reward by length: kept are exactly those that are longer; the preprompt is not in what is learned."""
    prompts = [
        Prompt(f"p{i}", (Message("user", f"what is the water of {i}?"),), "harmful", "", f"p{i}", "train")
        for i in range(12)
    ]
    longer = ByFunction("long", lambda t: float(len(t.answer)))
    sampling = Sampling(10, 1.0)
    found = distil(tiny_model, prompts, "the harbour is what is in the water", longer, sampling)
    assert len(found.rows) + sum(found.left_out.values()) == 12
    assert all(d.prompt in prompts for d in found.rows)
    none = distil(tiny_model, prompts, "the harbour", ByFunction("none", lambda _: None), sampling)
    assert none.rows == ()
    assert next(iter(none.left_out)).startswith("not scored")
    long = distil(tiny_model, prompts, "the harbour " * 900, longer, sampling)
    assert (long.rows, dict(long.left_out)) == ((), {"no room for an answer under the preprompt": 12})
    equal = distil(tiny_model, prompts, "the harbour", ByFunction("same", lambda _: 1.0), sampling)
    assert equal.rows == ()


def test_the_verb(settings):
    files = ("--comparisons", settings.comparisons, "--dev", settings.dev)
    more = ("--helpfulness", settings.helpfulness, "--helpfulness-dev", settings.helpfulness_dev)
    done = accord("align", "--recipe", "llama2", *files, *more, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert " operations; some " in done.stdout + done.stderr
    assert "2 rounds" in done.stdout + done.stderr
