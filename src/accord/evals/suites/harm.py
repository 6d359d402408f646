"""Harmful requests of the starter's sealed prompts, by hazard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from accord.data.records import read_prompts
from accord.evals.answers import harm_result
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Recorded, SkippedError
from accord.policy.schema import Policy
from accord.starter import verify_path
from accord.types import Prompt


@dataclass(frozen=True, slots=True)
class Harm:
    """Share of the starter's harmful requests that the model complies with, as the policy's clauses ask to answer them."""

    source: str = ""
    about: ClassVar[About] = About("accord-starter, written for this project", "Apache-2.0")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the harmful prompts of the policy's hazards, from `source` or the starter."""
        return of_policy(self.source, policy, ("harmful",))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return harmful compliance, grouped by hazard."""
        return (harm_result("harm", self.about, recorded.attempts, policy),)


def of_policy(source: str, policy: Policy, kinds: Sequence[str], clause: str = "") -> tuple[Prompt, ...]:
    """Return the prompts of some kinds whose clause the policy has: of another policy's clauses nothing can be said.

    Raises:
        SkippedError: there are none.
    """
    known = {c.id for c in policy.clauses}
    prompts = read_prompts(source or verify_path()).prompts
    kept = tuple(p for p in prompts if p.kind in kinds and p.clause in known and clause in ("", p.clause))
    if not kept:
        what = f"clause '{clause}'" if clause else f"a clause of policy '{policy.name}'"
        raise SkippedError(f"no {' or '.join(kinds)} prompt cites {what}; give your own: --suite NAME=FILE (JSONL)")
    return kept
