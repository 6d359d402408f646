from dataclasses import replace

from fixed_targets import GOAL, TEXT

from accord.data.records import as_text, prompt_from_row, to_row
from accord.redteam.attacks.encodings import decode_base64
from accord.redteam.attacks.in_the_wild import InTheWild
from accord.redteam.attacks.persona import Persona
from accord.redteam.siblings import siblings
from accord.types import Message


def test_every_other_attack_makes_one_and_the_finder_none():
    made = {s.attack: s for s in siblings(GOAL, "base64")}
    assert "base64" not in made
    assert {"direct", "rot13", "persona", "persuasion", "past_tense", "many_shot"} <= set(made)
    # They put words in the answer's mouth, ask a model, need a file, or are judged through a reader.
    assert not {"answer_prefill", "pair", "translation", "in_the_wild", "indirect_injection"} & set(made)
    assert made["direct"].sent == GOAL.messages
    assert len({as_text(s.sent) for s in made.values()}) == len(made)


def test_they_depend_on_goal_and_seed_alone():
    assert siblings(GOAL, "direct") == siblings(GOAL, "direct")
    drawn = {next(s.note for s in siblings(GOAL, "direct", seed) if s.attack == "persuasion") for seed in range(8)}
    assert len(drawn) > 1
    other = {s.attack: s for s in siblings(GOAL, "rot13")}
    assert all(other[s.attack] == s for s in siblings(GOAL, "base64") if s.attack in other)


def test_as_a_prompt_it_stays_in_the_goals_family_and_split():
    goal = replace(GOAL, messages=(Message("system", "Be brief."), *GOAL.messages))
    encoded = next(s.prompt for s in siblings(goal, "direct") if s.attack == "base64")
    assert (encoded.family, encoded.split, encoded.clause, encoded.kind) == (
        *(goal.family, goal.split),
        *(goal.clause, goal.kind),
    )
    assert encoded.id == "g1~base64"
    assert encoded.messages[0] == goal.messages[0]
    assert decode_base64(encoded.messages[-1].content.split()[-1]) == TEXT
    assert prompt_from_row(to_row(encoded))[0] == encoded


def test_given_attacks_are_used_and_one_without_its_file_is_left_out():
    made = siblings(GOAL, "direct", attacks={"mine": Persona(), "in_the_wild": InTheWild()})
    assert [s.attack for s in made] == ["mine"]
