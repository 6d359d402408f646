"""Answers before and after, side by side, grouped by kind of prompt and by how both ended; worst groups first.

Left out: the attempts of other conditions, which the run folder has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from accord.evals.summary import Condition, paired_attempts
from accord.policy.schema import Policy
from accord.types import Attempt, Kind, Outcome, acceptable

SHOWN_IN_A_GROUP = 100
# Controls, halves of surrogate pairs (no UTF-8 file can hold them), and the marks that turn the direction of text, by
# which a page could read other than it is written.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
KINDS: Mapping[Kind, str] = {
    "harmful": "Harmful requests",
    "contrast": "Contrast prompts (benign, but they look harmful)",
    "ordinary": "Ordinary prompts",
    "principle": "Prompts about principles",
}


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs of one kind that ended the same way; `pairs` holds the first of `n`."""

    before: Outcome
    after: Outcome
    n: int
    pairs: tuple[tuple[Attempt, Attempt], ...]
    wanted: bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """One kind of prompt with its groups."""

    kind: Kind
    title: str
    n: int
    groups: tuple[Group, ...]


def side_by_side(
    before: Condition, after: Condition, policy: Policy, shown: int = SHOWN_IN_A_GROUP
) -> tuple[Section, ...]:
    """Return the attempts at prompts that both conditions were asked, at most `shown` of a group.

    A group is `wanted` where the policy asks for the later outcome; None where it was not assessed or depends on the
    clause.
    """
    pairs = paired_attempts(before.attempts, after.attempts)
    sections = []
    for kind, title in KINDS.items():
        grouped: dict[tuple[Outcome, Outcome], list[tuple[Attempt, Attempt]]] = {}
        for ours, theirs in pairs:
            if ours.prompt.kind == kind:
                grouped.setdefault((ours.score.outcome, theirs.score.outcome), []).append((ours, theirs))
        groups = [
            Group(first, last, len(rows), tuple(rows[:shown]), _wanted([b for _, b in rows], policy))
            for (first, last), rows in grouped.items()
        ]
        order = {False: 0, None: 1, True: 2}
        groups.sort(key=lambda group: (order[group.wanted], -group.n, group.before, group.after))
        if groups:
            sections.append(Section(kind, title, sum(group.n for group in groups), tuple(groups)))
    return tuple(sections)


def _wanted(attempts: list[Attempt], policy: Policy) -> bool | None:
    modes = {hazard.id: hazard.response for hazard in policy.hazards}
    said = {acceptable(a.prompt.kind, modes.get(a.prompt.clause, "refuse"), a.score.outcome) for a in attempts}
    return said.pop() if len(said) == 1 else None


def folded(attempt: Attempt) -> bool:
    """Return whether an answer is hidden until a reader asks for it: it may give what a harmful request asked for."""
    return attempt.prompt.kind == "harmful" and attempt.score.outcome not in (
        Outcome.REFUSED,
        Outcome.BLOCKED,
        Outcome.EMPTY,
    )


def printable(text: str) -> str:
    """Return text with control characters made visible, so that an answer cannot disturb the page or the file."""
    return _UNSEEN.sub(_shown, text.replace("\r\n", "\n"))


def _shown(match: re.Match[str]) -> str:
    code = ord(match.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"
