"""What a round reads: policy, demonstrations, `verify` sets, and which training rows are held out."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.data.fence import assert_no_leak
from accord.data.records import read_choices, read_demonstrations, read_prompts
from accord.policy import Policy, load_policy
from accord.recipes.settings import AlignSettings
from accord.runs.atomic import file_digest
from accord.starter import capability_path, demonstrations_path, policy_path, verify_path
from accord.types import Choice, Demonstration, Prompt

HELD_OUT_EVERY = 10


@dataclass(frozen=True)
class Material:
    """All that a round reads, and what identifies it."""

    policy: Policy
    demonstrations: tuple[Demonstration, ...]
    held_out: tuple[Demonstration, ...]
    verify: tuple[Prompt, ...]
    choices: tuple[Choice, ...]
    hashes: Mapping[str, str]


def read_material(settings: AlignSettings) -> Material:
    """Read policy, demonstrations and `verify` sets, and refuse a leak between them.

    Every tenth pair and every tenth other row is held out of training, for choosing the operating point.

    Raises:
        InputError: a file is missing or malformed, or a `verify` prompt stands in the training rows.
    """
    policy_file = Path(settings.policy) if settings.policy else policy_path()
    demo_file = Path(settings.demonstrations) if settings.demonstrations else demonstrations_path()
    policy = load_policy(policy_file)
    demonstrations = read_demonstrations(demo_file)
    verify = list(read_prompts(verify_path()).prompts)
    choices = read_choices(capability_path())
    known = {clause.id for clause in policy.clauses}
    for d in demonstrations:
        if d.prompt.kind == "harmful" and d.prompt.clause not in known:
            policy.clause(d.prompt.clause)
    assert_no_leak([d.prompt for d in demonstrations], verify)
    if settings.limit:
        demonstrations = first_of_each_kind(demonstrations, lambda d: d.prompt.kind, settings.limit)
        verify = first_of_each_kind(verify, lambda p: p.kind, settings.limit)
        choices = choices[: settings.limit]
    out = _held_out_units(demonstrations, settings.seed)
    held_out = tuple(d for d in demonstrations if _unit(d) in out)
    kept = tuple(d for d in demonstrations if _unit(d) not in out)
    hashes = {
        "policy": policy.hash,
        "demonstrations": file_digest(demo_file),
        "verify": file_digest(verify_path()),
        "capability": file_digest(capability_path()),
        "comparisons": file_digest(Path(settings.comparisons)) if settings.comparisons else "",
    }
    return Material(policy, kept, held_out, tuple(verify), tuple(choices), hashes)


def _unit(d: Demonstration) -> str:
    return d.prompt.pair or d.prompt.family


def _held_out_units(demonstrations: Sequence[Demonstration], seed: int) -> set[str]:
    """A tenth of the paired rows and a tenth of the others, whole pairs or families at a time."""
    out: set[str] = set()
    for paired in (True, False):
        units = sorted({_unit(d) for d in demonstrations if (d.prompt.kind in ("harmful", "contrast")) == paired})
        random.Random(seed).shuffle(units)
        out |= set(units[::HELD_OUT_EVERY])
    return out


def first_of_each_kind(rows: Sequence[Any], kind: Any, limit: int) -> list[Any]:
    """Return the first `limit` rows of each kind, in order."""
    kept: list[Any] = []
    counts: dict[str, int] = {}
    for row in rows:
        counts[kind(row)] = counts.get(kind(row), 0) + 1
        if counts[kind(row)] <= limit:
            kept.append(row)
    return kept
