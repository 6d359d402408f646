"""Which attacks a campaign runs: by name with options, or all that need no weights and no file.

`many_shot`, `best_of_n:sigma=0.2` and `./mine.py:Mine:tries=3` name an attack; what stands behind the last colon sets its options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from accord.errors import ModelError, SettingsError, nearest
from accord.models.completer import Completer
from accord.redteam.attack import Attack
from accord.resolve import names_in, options_of, resolve

ROOM = "accord.redteam.attacks"
_SPEC = re.compile(r"(?P<name>.+?)(?::(?P<options>\w+=[^,]*(?:,\w+=[^,]*)*))?")
_TRUTH = {"true": True, "false": False}


def choose_attacks(specs: Sequence[str]) -> dict[str, Attack]:
    """Return the attacks named, by what they were named; without names, every black-box attack that needs no file.

    Raises:
        SettingsError: an attack or one of its options is not known, or an attack needs a file and was given none.
    """
    if specs:
        return {spec: build_attack(spec) for spec in specs}
    built = {name: resolve(ROOM, name) for name in names_in(ROOM)}
    return {name: attack() for name, attack in built.items() if not attack.white_box and not _lacks_file(attack())}


def build_attack(spec: str) -> Attack:
    """Return one attack with its options.

    Raises:
        SettingsError: it or one of its options is not known, a value does not fit, or it needs a file and was given none.
    """
    match = _SPEC.fullmatch(spec)
    name, given = (match["name"], match["options"] or "") if match else (spec, "")
    kind = resolve(ROOM, name)
    known = options_of(kind)
    options: dict[str, Any] = {}
    for pair in filter(None, given.split(",")):
        option, _, value = pair.partition("=")
        if option not in known:
            raise SettingsError(
                f"attack '{name}' has no option '{option}'{nearest(option, known)}; it has: {', '.join(known) or 'none'}"
            )
        options[option] = _value(name, option, value, type(known[option].default))
    attack: Attack = kind(**options)
    if _lacks_file(attack):
        raise SettingsError(f"attack '{name}' reads its prompts from a file; name it: --attack {name}:path=FILE")
    return attack


def shipped_attack(spec: str) -> Attack:
    """Return an attack that comes with Accord, by the name that a stored finding gives it.

    A store may hold another person's findings: a file that they name is not run.

    Raises:
        SettingsError: it is another's, or it cannot be built.
    """
    if ".py:" in spec:
        raise SettingsError(f"attack '{spec}' does not come with Accord, and is not run on a finding's word")
    return build_attack(spec)


def usable(attacks: Mapping[str, Attack], completer: Completer, named: bool) -> dict[str, Attack]:
    """Return the attacks whose needs the model meets.

    Raises:
        ModelError: an attack that was `named` needs what the model cannot do.
    """
    lacking = {name: sorted(attack.needs - completer.abilities) for name, attack in attacks.items()}
    if named and any(lacking.values()):
        needs = "; ".join(f"{name} needs {', '.join(missing)}" for name, missing in lacking.items() if missing)
        raise ModelError(f"{needs}, which '{completer.name}' cannot do; leave it out or attack a local model")
    return {name: attack for name, attack in attacks.items() if not lacking[name]}


def _lacks_file(attack: Attack) -> bool:
    return getattr(attack, "path", None) == ""


def _value(attack: str, option: str, text: str, kind: type) -> Any:
    try:
        return _TRUTH[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError, TypeError):
        raise SettingsError(f"attack '{attack}': {option}={text} is no {kind.__name__}") from None
