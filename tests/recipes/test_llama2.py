"""Llama 2's recipe, whole, on the tiny model and a few comparisons."""

import pytest
from command_line import accord
from test_single_runs import comparisons

from accord.feedback.context_distillation import distil
from accord.models.load import load_model
from accord.models.sampling import Sampling
from accord.recipes.llama2 import LlamaSettings, plan, read_material, run_llama2
from accord.report.llama2_page import headline
from accord.scorers.as_reward import ByFunction
from accord.types import Message, Prompt, Silent


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
    assert "2 rounds" in done.stdout + done.stderr
