"""Reads a policy from YAML: every fault of the file in one message, each with its line and its clause.

Left out: includes and inheritance between policies; a policy is one file that a person can read from top to bottom.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from accord.errors import PolicyError, nearest
from accord.policy.schema import Gate, Hazard, Policy, Principle

# A place in the document: keys and indices from the top, as pydantic's `loc` has them.
Place = tuple[str | int, ...]
_PARTS: Mapping[str, type[BaseModel]] = {"": Policy, "hazards": Hazard, "principles": Principle, "gates": Gate}
_DEEPEST = 4


def load_policy(path: str | Path) -> Policy:
    """Return the policy in the YAML file `path`.

    Raises:
        PolicyError: if the file is missing, is no YAML (with line and column), or does not fit the schema. One message
            lists every fault with its line and clause id; unknown keys come with the nearest right name.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PolicyError(f"{path}: no such policy file; expected a YAML file with name, version and hazards") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return parse_policy(text, str(path))


def parse_policy(text: str, where: str = "policy") -> Policy:
    """Return the policy in the YAML `text`; `where` names it in messages.

    Raises:
        PolicyError: as in `load_policy`.
    """
    data, lines, faults = _read_yaml(text, where)
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        expected = "a mapping with name, version, summary and hazards"
        raise PolicyError(f"{where}: the document is {_kind(data)}; expected {expected}")
    policy: Policy | None = None
    try:
        policy = Policy.model_validate(data)
    except ValidationError as error:
        faults += [_describe(fault, data, lines) for fault in _own_faults(error)]
    # Pydantic checks ids across clauses only once every clause is well formed; here they are listed with the rest.
    faults = [fault for fault in faults if "used more than once" not in fault[1]] + _repeated_ids(data, lines)
    if faults or policy is None:
        listed = "\n".join(f"  line {line}: {message}" for line, message in sorted(faults))
        count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
        raise PolicyError(f"{where}: the policy cannot be used, {count}:\n{listed}")
    return policy


def _read_yaml(text: str, where: str) -> tuple[Any, dict[Place, int], list[tuple[int, str]]]:
    """Return the document, the line of every place in it, and the keys given twice."""
    lines: dict[Place, int] = {}
    faults: list[tuple[int, str]] = []
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        hint = "; check the indentation and the colons there, and use spaces, not tabs"
        raise PolicyError(f"{where}: not valid YAML at {at}: {error.problem or error.context}{hint}") from None
    except yaml.YAMLError as error:
        raise PolicyError(f"{where}: not valid YAML: {error}") from None
    if node is not None:
        _walk(node, (), lines, faults)
    return data, lines, faults


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], faults: list[tuple[int, str]]) -> None:
    """Note each place's line; YAML lets a later key win silently, so a key given twice is a fault."""
    lines.setdefault(place, node.start_mark.line + 1)
    if len(place) > _DEEPEST:  # an anchor may contain itself; no fault lies deeper than a clause's lists
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                faults.append((line, f"key '{key.value}' is given twice (first on line {lines[inner]})"))
                continue
            lines[inner] = line
            _walk(value, inner, lines, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*place, index), lines, faults)


def _own_faults(error: ValidationError) -> list[dict[str, Any]]:
    """Return the faults without those that follow from others: a list counts as too short where its items are faulty."""
    faults: list[dict[str, Any]] = [dict(fault) for fault in error.errors(include_url=False)]
    places: list[Place] = [tuple(fault["loc"]) for fault in faults]

    def follows(fault: Mapping[str, Any], loc: Place) -> bool:
        return fault["type"] == "too_short" and any(len(p) > len(loc) and p[: len(loc)] == loc for p in places)

    return [fault for fault, place in zip(faults, places, strict=True) if not follows(fault, place)]


def _describe(fault: Mapping[str, Any], data: dict[str, Any], lines: Mapping[Place, int]) -> tuple[int, str]:
    """Return line and message of one fault of the schema."""
    loc: Place = tuple(fault["loc"])
    clause = _clause_name(loc, data)
    name = ".".join(str(part) for part in (loc[2:] if clause and len(loc) > 2 else loc))
    line = next(lines[loc[:cut]] for cut in range(len(loc), -1, -1) if loc[:cut] in lines)
    section = str(loc[0]) if clause and len(loc) > 2 and str(loc[0]) in _PARTS else ""
    if fault["type"] == "extra_forbidden":
        message = f"unknown key '{loc[-1]}'{_suggest(str(loc[-1]), section)}"
    elif fault["type"] == "missing":
        message = f"'{name}' is missing"
    elif fault["type"] == "value_error":
        message = f"'{name}': {fault['ctx']['error']}" if len(loc) > 2 else str(fault["ctx"]["error"])
    else:
        expected = fault["msg"].replace("valid tuple", "list")
        message = f"'{name}': {expected[0].lower()}{expected[1:]}, not {_shown(fault['input'])}"
        if fault["type"] == "string_type" and isinstance(fault["input"], (int, float)):
            message += "; put it in quotes"
        if fault["type"] == "string_pattern_mismatch":
            message = f"'{name}': {_shown(fault['input'])} is no clause id; expected lower-case words joined by '-'"
        if fault["type"] == "literal_error" and isinstance(fault["input"], str):
            choices = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            message += nearest(fault["input"], choices)
    return line, f"{clause}{message}"


def _suggest(key: str, section: str) -> str:
    """Return the nearest right name: in the same section first, then the same name at another level."""
    here = list(_PARTS[section].model_fields)
    elsewhere = {
        name: f"{other}[].{name}" if other else name
        for other, model in _PARTS.items()
        if other != section
        for name in model.model_fields
        if name not in here
    }
    if key in elsewhere:
        return f"; did you mean '{elsewhere[key]}', at another level?"
    return nearest(key, here) or nearest(key, elsewhere.values()) or f"; known here: {', '.join(here)}"


def _clause_name(loc: Place, data: dict[str, Any]) -> str:
    """Return `hazard 'fraud': ` for a place inside a clause, by index where it has no id, or an empty string."""
    if len(loc) < 2 or loc[0] not in ("hazards", "principles", "gates") or not isinstance(loc[1], int):
        return ""
    clause = data[str(loc[0])][loc[1]]
    id = clause.get("measure" if loc[0] == "gates" else "id") if isinstance(clause, dict) else None
    return f"{str(loc[0])[:-1]} '{id}': " if isinstance(id, str) else f"{str(loc[0])[:-1]} number {loc[1] + 1}: "


def _repeated_ids(data: dict[str, Any], lines: Mapping[Place, int]) -> list[tuple[int, str]]:
    first: dict[str, int] = {}
    faults = []
    for section in ("hazards", "principles"):
        clauses = data.get(section)
        for index, clause in enumerate(clauses if isinstance(clauses, list) else []):
            id = clause.get("id") if isinstance(clause, dict) else None
            if not isinstance(id, str):
                continue
            line = lines.get((section, index, "id")) or lines[(section,)]  # a merge key has no place of its own
            if id in first:
                faults.append((line, f"{section[:-1]} '{id}': id used more than once (first on line {first[id]})"))
            first.setdefault(id, line)
    return faults


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind(data: Any) -> str:
    names = {"NoneType": "empty", "list": "a list", "dict": "a mapping whose keys are not all text"}
    return names.get(type(data).__name__, f"a single {type(data).__name__}")
