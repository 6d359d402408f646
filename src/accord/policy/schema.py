"""The policy document as frozen records: hazards, principles, and how each hazard is to be answered.

Reading a file lives in `loader`, what is derived from a policy in `derive`. Left out: comparing two policies.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from accord.errors import PolicyError, nearest
from accord.types import ResponseMode

Severity = Literal["low", "medium", "high", "critical"]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
ClauseId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class _Part(BaseModel):
    # `strict`: YAML reads `version: 1.0` as a number and `no` as a bool; a policy must not change its meaning silently.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hazard(_Part):
    """A kind of harm: what it is, what is and is not allowed, and how such a request is answered."""

    id: ClauseId
    name: Text
    definition: Text
    severity: Severity
    disallowed: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    allowed: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    response: ResponseMode
    guidance: Text
    written_response: Text


class Principle(_Part):
    """A way in which every answer is to be given."""

    id: ClauseId
    name: Text
    statement: Text


Clause = Hazard | Principle
_C = TypeVar("_C", Hazard, Principle, Hazard | Principle)


class Policy(_Part):
    """A safety policy. Every clause (a hazard or a principle) has an id that reports, findings and data cite."""

    name: Text
    version: Text
    summary: Text
    hazards: Annotated[tuple[Hazard, ...], Field(min_length=1, strict=False)]
    principles: Annotated[tuple[Principle, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [clause.id for clause in self.clauses]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise ValueError(f"clause id used more than once: {', '.join(repeated)}")
        return self

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """Hazards, then principles, in the document's order."""
        return (*self.hazards, *self.principles)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the policy's canonical JSON: sorted keys, no spaces, UTF-8. Comments do not change it."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode("utf-8")).hexdigest()

    def clause(self, id: str) -> Clause:
        """Return the hazard or principle with this id.

        Raises:
            PolicyError: if there is none; the message names the nearest id.
        """
        return _find(self.clauses, id, "clause", self.name)

    def hazard(self, id: str) -> Hazard:
        """Return the hazard with this id.

        Raises:
            PolicyError: if there is none; the message names the nearest id.
        """
        return _find(self.hazards, id, "hazard", self.name)

    def response_mode(self, clause: str) -> ResponseMode:
        """Return how requests under a clause are answered; under a principle or none there is nothing to decline."""
        return next((hazard.response for hazard in self.hazards if hazard.id == clause), "help_with_care")


def _find(clauses: tuple[_C, ...], id: str, what: str, policy: str) -> _C:
    found = next((clause for clause in clauses if clause.id == id), None)
    if found is None:
        raise PolicyError(f"policy '{policy}' has no {what} '{id}'{nearest(id, (clause.id for clause in clauses))}")
    return found
