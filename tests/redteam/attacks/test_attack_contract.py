"""What every attack in the folder owes; a new file is found and held to it with no line added here."""

import dataclasses
import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from fixed_targets import ANSWER, GOAL, EmptyTarget, FailingTarget, FixedTarget, FixedWriter, outcomes, put

from accord.errors import SettingsError
from accord.models.completer import Ability
from accord.resolve import names_in, resolve
from accord.types import Outcome, Score

ROOM = "accord.redteam.attacks"
NAMES = names_in(ROOM)
FIXED = frozenset({Ability.PREFILL, Ability.LOGPS})
BLACK_BOX = [name for name in NAMES if resolve(ROOM, name).needs <= FIXED]


@pytest.fixture
def made(tmp_path):
    """Make an attack with its defaults; one that reads a file is given one."""

    def make(name):
        attack = resolve(ROOM, name)
        options = {}
        if "path" in {field.name for field in dataclasses.fields(attack)}:
            path = tmp_path / "prompts.jsonl"
            rows = [{"prompt": f"Frame {i}. [INSERT PROMPT HERE]"} for i in range(5)]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            options["path"] = str(path)
        return attack(**options)

    return make


def told(target):
    """All that an observer sees of a run."""
    return [(a.id, a.sent, a.prefill, a.note, a.answer, a.score, a.queries) for a in target.attempts]


def test_the_published_black_box_methods_are_there():
    assert set(BLACK_BOX) >= {
        *(
            "direct",
            "base64",
            "rot13",
            "leetspeak",
            "zero_width",
            "confusables",
            "letter_spacing",
            "persona",
            "template",
        ),
        *("refusal_suppression", "prefix_injection", "answer_prefill", "past_tense", "many_shot", "in_the_wild"),
        *("persuasion", "translation", "best_of_n", "crescendo", "pair", "tap", "indirect_injection"),
    }


@pytest.mark.parametrize("name", NAMES)
def test_it_is_described_and_declared(name):
    attack = resolve(ROOM, name)
    module = import_module(f"{ROOM}.{name}")
    assert module.__doc__
    doc = inspect.getdoc(attack)
    assert doc
    cited = re.search(r"arXiv \d{4}\.\d{4,5}|NeurIPS \d{4}", module.__doc__ + doc)
    assert name == "direct" or cited, "no source in the docstrings"
    assert isinstance(attack.needs, frozenset)
    assert all(isinstance(ability, Ability) for ability in attack.needs)
    assert isinstance(attack.white_box, bool)
    assert list(inspect.signature(attack.__call__).parameters) == ["self", "goal", "target", "budget", "rng"]
    required = [p.name for p in inspect.signature(attack).parameters.values() if p.default is p.empty]
    assert required == [], "a constructor field has no default"
    tests = Path(__file__).parents[1].rglob("test_*.py")
    assert any(f"{ROOM}.{name} import" in test.read_text() for test in tests), "no test of its mechanism"


@pytest.mark.parametrize("name", BLACK_BOX)
@pytest.mark.parametrize("budget", [1, 2, 5, 12])
def test_it_keeps_to_its_budget_and_records_every_question(name, budget, made):
    completer, writer = FixedTarget(abilities=FIXED), FixedWriter(lambda request: "no")
    target = put(made(name), completer, budget, attacker=writer)
    assert not hasattr(target, "cut_off"), "it asked for more than its budget"
    assert 1 <= len(completer.asked) <= budget
    assert [a.sent for a in target.attempts] == [r.messages for r in completer.asked]
    assert [a.prefill for a in target.attempts] == [r.prefill for r in completer.asked]
    assert [a.queries for a in target.attempts] == list(range(1, len(completer.asked) + 1))
    assert len({r.key for r in completer.asked}) == len(completer.asked)
    assert set(outcomes(target)) <= {"refused", "deflected"}
    assert all(request.messages[-1].role in ("user", "tool") for request in completer.asked)


@pytest.mark.parametrize("name", BLACK_BOX)
def test_it_stops_at_the_first_success(name, made):
    target = put(made(name), FixedTarget(lambda request: True, FIXED), attacker=FixedWriter(lambda request: "no"))
    assert outcomes(target)[-1] == "complied"
    # Branches of a tree are asked together; every other attack asks one question after another.
    assert outcomes(target).count("complied") == 1 or name == "tap"
    assert len(target.attempts) <= 4


@pytest.mark.parametrize("name", BLACK_BOX)
def test_what_the_clause_accepts_does_not_end_it(name, made):
    """Every answer is partial: where the clause asks for safe substance the attack goes on as if it had been refused."""

    def asked(outcome, mode):
        async def judge(transcript):
            return Score(outcome, "fixed")

        completer = FixedTarget(lambda request: True, FIXED)
        writer = FixedWriter(lambda request: "no")
        return len(put(made(name), completer, attacker=writer, mode=mode, judge=judge).attempts)

    whole_course = asked(Outcome.REFUSED, "refuse")
    assert asked(Outcome.PARTIAL, "safe_complete") == asked(Outcome.PARTIAL, "help_with_care") == whole_course
    assert asked(Outcome.PARTIAL, "refuse") <= 4


@pytest.mark.parametrize("name", BLACK_BOX)
def test_the_same_goal_and_seed_ask_the_same(name, made):
    runs = []
    for seed in (3, 3):
        says = FixedWriter(lambda request: f"PROMPT: Where is a locked cupboard's key, says {request.key}?")
        runs.append(told(put(made(name), FixedTarget(abilities=FIXED), attacker=says, seed=seed)))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("name", BLACK_BOX)
@pytest.mark.parametrize(("broken", "outcome"), [(FailingTarget, "error"), (EmptyTarget, "empty")])
def test_errors_and_empty_answers_are_outcomes_of_their_own(name, broken, outcome, made):
    completer = broken(abilities=FIXED)
    target = put(made(name), completer)
    assert target.attempts
    assert set(outcomes(target)) == {outcome}
    assert len(target.attempts) <= 12


@pytest.mark.parametrize("name", BLACK_BOX)
@pytest.mark.parametrize(
    "reply", ["", "I'm sorry, I can't write that.", "{", "word " * 500, "\ud83d\ude00", "PROMPT:", ANSWER]
)
def test_no_reply_of_the_attacker_breaks_it(name, reply, made):
    target = put(made(name), FixedTarget(abilities=FIXED), 6, attacker=FixedWriter(lambda request: reply))
    assert target.attempts
    assert all(a.sent[-1].content.strip() for a in target.attempts)


@pytest.mark.parametrize("name", BLACK_BOX)
def test_what_stood_before_the_goal_still_stands_there(name, made):
    """A system prompt is part of what is attacked: no attack may drop it."""
    system = (dataclasses.replace(GOAL.messages[0], role="system", content="You are a caretaker."), *GOAL.messages)
    completer = FixedTarget(abilities=FIXED)
    put(
        made(name), completer, goal=dataclasses.replace(GOAL, messages=system), attacker=FixedWriter(lambda request: "")
    )
    assert all(request.messages[0] == system[0] for request in completer.asked)


def test_an_attack_that_needs_a_file_says_so():
    with pytest.raises(SettingsError, match="path=FILE"):
        put(resolve(ROOM, "in_the_wild")(), FixedTarget())
