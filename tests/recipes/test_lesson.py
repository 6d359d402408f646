"""What a later round trains on, and its control: counts, pairs and clusters."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from accord.data.findings import FindingStore
from accord.errors import DataError
from accord.feedback.review import Repair, lessons, write_repairs
from accord.policy import load_policy
from accord.recipes.attacked import drawn
from accord.recipes.lesson import REPAIRS, balanced, control_of, keep, make_lesson, pick, replayed
from accord.redteam.summary import Trial
from accord.scorers.refusal import RefusalScorer
from accord.starter import policy_path
from accord.types import Attempt, Demonstration, Finding, Message, Outcome, Prompt, Score


def prompt(id, kind="harmful", pair="", split="discover"):
    return Prompt(id, (Message("user", f"say {id}"),), kind, "fraud", f"fraud/{id}", split, pair=pair)


def attempt(goal, attack, outcome, queries=1):
    sent = (Message("user", f"[{attack}] {goal.messages[-1].content}"),)
    score = Score(outcome, "refusal")
    return Attempt(f"{attack}/{goal.id}/{queries}", goal, "m", "Sure.", 2, False, score, 0, attack, sent, "", queries)


def finding(goal, attack="persona", cluster="", prefill=""):
    made = attempt(goal, attack, Outcome.COMPLIED)
    return Finding(
        f"f/{made.id}", goal, "Sure.", made.score, "harmful-compliance", "m",
        attack=attack, sent=made.sent, prefill=prefill, cluster=cluster,
    )  # fmt: skip


def first_set(n):
    rows = []
    for i in range(n):
        rows.append(Demonstration(prompt(f"harmful-{i}", "harmful", f"p{i}", "train"), "No."))
        rows.append(Demonstration(prompt(f"contrast-{i}", "contrast", f"p{i}", "train"), "Yes."))
        rows.append(Demonstration(prompt(f"ordinary-{i}", "ordinary", "", "train"), "Yes."))
    return rows


def test_a_hundred_copies_of_one_failure_weigh_as_much_as_one():
    copies = [finding(prompt(f"copy-{i}"), cluster="a") for i in range(100)]
    others = [finding(prompt("b"), cluster="b"), finding(prompt("c"), cluster="c")]
    picked = pick([*copies, *others], 4, seed=0)
    assert Counter(f.cluster for f in picked) == {"a": 2, "b": 1, "c": 1}
    assert pick([finding(prompt("x"), prefill="Sure, ")], 4, seed=0) == ()


def test_the_control_has_as_many_rows_of_each_kind_and_none_that_is_replayed():
    demonstrations = first_set(200)
    kept = replayed(demonstrations, seed=1)
    for n_benign in (0, 7, 10, 20):
        rows = [Demonstration(prompt(f"h{i}"), "No.") for i in range(10)]
        rows += [Demonstration(prompt(f"c{i}", "contrast"), "Yes.") for i in range(n_benign)]
        control = control_of(rows, demonstrations, kept, seed=1)
        assert Counter(d.prompt.kind == "harmful" for d in control) == Counter(d.prompt.kind == "harmful" for d in rows)
        ids = [d.prompt.id for d in control]
        assert len(set(ids)) == len(ids)
        assert not {d.prompt.id for d in kept} & set(ids)


def test_a_goal_and_its_twin_meet_the_same_attacks():
    goals = [prompt(f"{kind}{i}", kind, f"p{i}") for i in range(30) for kind in ("harmful", "contrast")]
    attacked = drawn(goals, [f"attack {i}" for i in range(11)], 4 / 11, seed=0)
    met = {}
    for attack, rows in attacked.goals:
        for goal in rows:
            met.setdefault(goal.id, set()).add(attack)
    assert all(len(attacks) == 4 for attacks in met.values())
    assert all(met[f"harmful{i}"] == met[f"contrast{i}"] for i in range(30))
    assert len({frozenset(a) for a in met.values()}) > 5


def tried(goal):
    return Trial("persona", goal, "uniform", (attempt(goal, "persona", Outcome.COMPLIED),))


def test_what_a_later_round_finds_again_is_the_finding_that_is_there(tmp_path):
    """The same words and answer in both rounds: one row of the store, whose id each round is told."""
    policy = load_policy(policy_path())
    goals = [prompt(f"g{i}") for i in range(3)]
    trials = [tried(goal) for goal in goals]
    with FindingStore(tmp_path / "store.sqlite") as store:
        first = keep(store, trials, policy, "round 2", 2)
        again = keep(store, [*trials, tried(prompt("g3"))], policy, "round 3", 3)
        assert {f.id for f in first} < {f.id for f in again}
        assert len(again) == 4
        assert len(store.trainable([f.id for f in again])) == 4
        assert all(f.cluster for f in again)


def repaired(id, kind, use, review=""):
    return Repair(id, f"f/{id}", use, prompt(id, kind), "An answer.", "sampled", review=review)


def test_a_lesson_has_two_benign_rows_a_harmful_one_whatever_was_found():
    """The third round of the log: 79 harmful findings with two contrast prompts each, 71 requests wrongly refused."""
    rows = [repaired(f"h{i}", "harmful", "repair") for i in range(79)]
    rows += [repaired(f"c{i}", "contrast", "contrast") for i in range(158)]
    rows += [repaired(f"r{i}", "contrast", "repair") for i in range(71)]
    kept = balanced(rows, seed=3)
    assert Counter(r.id[0] for r in kept) == {"h": 79, "r": 71, "c": 158 - 71}
    assert balanced(rows[:80], seed=3) == tuple(rows[:80])
    # Of too many wrongly refused requests as many are drawn; what a person rejected is none of either.
    few = [repaired("h", "harmful", "repair"), repaired("x", "harmful", "repair", "rejected"), *rows[237:]]
    assert Counter(r.id[0] for r in balanced(few, seed=3)) == {"h": 1, "r": 2}
    assert balanced(rows[79:], seed=3) == ()


def lesson_of(store, ids, folder):
    """The lesson of a file of repairs that is there: nobody is asked."""
    policy, nobody = load_policy(policy_path()), None
    made = make_lesson(store, ids, first_set(8), policy, nobody, nobody, RefusalScorer(), 0, folder)
    return asyncio.run(made)


def test_what_may_not_be_trained_on_is_left_out_and_counted_and_the_round_goes_on(tmp_path):
    """Four findings repaired; then one is dismissed by a person and one sealed: the lesson is of the other two."""
    found = [replace(finding(prompt(f"g{i}")), id=f"f/{i}") for i in range(4)]
    with FindingStore(tmp_path / "store.sqlite") as store:
        store.add(found)
        ids = [f.id for f in found]
        repairs = [repaired(str(i), "harmful", "repair") for i in range(4)]
        write_repairs(tmp_path / REPAIRS, repairs)
        whole = lesson_of(store, ids, tmp_path)
        assert ({f.id for f in whole.findings}, whole.n_barred) == (set(ids), 0)
        store.label("f/1", "not a failure")
        store.seal([prompt("g2", split="verify")])
        left = lesson_of(store, ids, tmp_path)
        assert ({f.id for f in left.findings}, left.n_barred) == ({"f/0", "f/3"}, 2)
        taught = {d.prompt.id for d in left.rows}
        assert {"0", "3"} <= taught
        assert not {"1", "2"} & taught
        assert left.digest != whole.digest
        # The fence itself is as it was.
        with pytest.raises(DataError, match="1 sealed from training: f/2; 1 no failures to learn from: f/1"):
            store.trainable(ids)
        with pytest.raises(DataError, match="sealed from training: f/2"):
            lessons(repairs, store)


def test_a_lesson_is_named_by_what_it_teaches_not_by_what_became_of_its_findings(tmp_path):
    f = replace(finding(prompt("g")), id="f/a")
    with FindingStore(tmp_path / "store.sqlite") as store:
        store.add([f])
        write_repairs(tmp_path / REPAIRS, [repaired("a", "harmful", "repair")])
        first = lesson_of(store, ["f/a"], tmp_path)
        store.set_status(["f/a"], "in training")
        assert lesson_of(store, ["f/a"], tmp_path).digest == first.digest
        write_repairs(tmp_path / REPAIRS, [replace(repaired("a", "harmful", "repair", "edited"), answer="Never.")])
        assert lesson_of(store, ["f/a"], tmp_path).digest != first.digest


def test_a_round_that_found_nothing_replays_the_first_training_set(tmp_path):
    with FindingStore(tmp_path / "store.sqlite") as store:
        store.add([replace(finding(prompt("g")), id="f/a")])
        store.label("f/a", "not a failure")
        lesson = lesson_of(store, ["f/a"], tmp_path)
    assert (lesson.findings, lesson.n_barred) == ((), 1)
    assert lesson.rows == lesson.control == replayed(first_set(8), seed=0)
