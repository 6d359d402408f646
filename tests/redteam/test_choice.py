"""Attacks by name, with options, and those that a model cannot be attacked with."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from campaign_parts import Scripted

from accord.errors import ModelError, SettingsError
from accord.models.completer import Ability
from accord.redteam.attacks.direct import Direct
from accord.redteam.choice import build_attack, choose_attacks, usable

MINE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    n: int = 2
    strength: float = 0.5
    loud: bool = False
    path: str = "x"
    needs = frozenset()
    white_box = False

@dataclass(frozen=True)
class Reads:
    path: str = ""
    needs = frozenset()
    white_box = False
"""


def test_options_stand_behind_the_name_and_take_their_kind_from_the_default(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    mine = build_attack(f"{tmp_path / 'mine.py'}:Mine:n=3,strength=0.1,loud=true,path=a b")
    assert (mine.n, mine.strength, mine.loud, mine.path) == (3, 0.1, True, "a b")
    for options, message in (
        ("n=x", "n=x is no int"),
        ("loud=maybe", "loud=maybe is no bool"),
        ("strngth=1", "has no option 'strngth'; did you mean 'strength'"),
    ):
        with pytest.raises(SettingsError, match=message):
            build_attack(f"{tmp_path / 'mine.py'}:Mine:{options}")
    with pytest.raises(SettingsError, match="reads its prompts from a file"):
        build_attack(f"{tmp_path / 'mine.py'}:Reads")


def test_without_names_the_black_box_attacks_are_chosen_and_a_named_one_is_built():
    chosen = choose_attacks([])
    assert isinstance(chosen["direct"], Direct)
    assert not any(attack.white_box for attack in chosen.values())
    assert choose_attacks(["direct"]) == {"direct": Direct()}


def test_what_a_model_cannot_do_is_left_out_or_refused_where_it_was_named():
    @dataclass(frozen=True)
    class Prefills(Direct):
        needs = frozenset({Ability.PREFILL})

    both = {"direct": Direct(), "prefills": Prefills()}
    model = Scripted(lambda _: "")
    assert set(usable(both, model, named=False)) == {"direct"}
    with pytest.raises(ModelError, match="prefills needs prefill, which 'scripted' cannot do"):
        usable(both, model, named=True)
