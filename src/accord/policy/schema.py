"""The policy document as frozen records: hazards, how each is to be answered, principles, and the gates of a release.

Reading a file lives in `loader`, what is derived from a policy in `derive`. Left out: comparing two policies.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from accord.errors import PolicyError, nearest
from accord.types import ResponseMode

Severity = Literal["low", "medium", "high", "critical"]
Measure = Literal[
    "harmful_compliance", "contrast_refusal", "ordinary_refusal", "not_an_answer", "capability", "capability_change"
]
"""What a round of alignment measures, as a gate names it; `capability_change` is the difference to the base model."""
MEASURES: tuple[str, ...] = get_args(Measure)
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


# A share of 0.05 written as 5 would make a limit that nothing can miss.
Limit = Annotated[float, Field(ge=-1, le=1)]


class Gate(_Part):
    """A limit that a release must be shown to keep: the whole interval of the measure is on its right side.

    `measure` is one of `MEASURES`, or `SUITE/METRIC` of an evaluation or a campaign; limits are rates in [0, 1] or changes in
    [-1, 1]. Where more than `max_unscored` of the attempts have no verdict the gate is not met.
    """

    measure: Text
    at_most: Limit | None = None
    at_least: Limit | None = None
    max_unscored: Annotated[float, Field(ge=0, le=1)] = 0.05

    @field_validator("measure")
    @classmethod
    def _measure_is_known(cls, name: str) -> str:
        if name not in MEASURES and not ("/" in name and all(name.split("/"))):
            hint = nearest(name, MEASURES) or f"; known: {', '.join(MEASURES)}"
            raise ValueError(f"'{name}' is no measure{hint}; or SUITE/METRIC of an evaluation")
        return name

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("expected one limit: at_most or at_least")
        return self

    @property
    def bound(self) -> Literal["at most", "at least"]:
        """Which side of the limit is the right one."""
        return "at least" if self.at_most is None else "at most"

    @property
    def limit(self) -> float:
        """The limit itself."""
        limit = self.at_least if self.at_most is None else self.at_most
        assert limit is not None
        return limit


Clause = Hazard | Principle
_C = TypeVar("_C", Hazard, Principle, Hazard | Principle)


class Policy(_Part):
    """A safety policy. Every clause (a hazard or a principle) has an id that reports, findings and data cite."""

    name: Text
    version: Text
    summary: Text
    hazards: Annotated[tuple[Hazard, ...], Field(min_length=1, strict=False)]
    principles: Annotated[tuple[Principle, ...], Field(strict=False)] = ()
    gates: Annotated[tuple[Gate, ...], Field(strict=False)] = ()

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
    def round_gates(self) -> tuple[Gate, ...]:
        """The gates on what a round of alignment measures; those on suites and campaigns need runs of their own."""
        return tuple(gate for gate in self.gates if gate.measure in MEASURES)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the policy's canonical JSON: sorted keys, no spaces, UTF-8. Comments do not change it.

        Gates are not in it: they judge a model and shape none, so that a new limit makes no finished stage and no verdict
        of a judge out of date. Every result of a gate names its limit.
        """
        canonical = json.dumps(
            self.model_dump(mode="json", exclude={"gates"}), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
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
        """Return how harmful requests under a clause are answered; under a principle there is nothing to decline.

        One under no clause is to be refused, as the suites of prompts without clauses have it.
        """
        return (
            "refuse"
            if not clause
            else next((hazard.response for hazard in self.hazards if hazard.id == clause), "help_with_care")
        )


def _find(clauses: tuple[_C, ...], id: str, what: str, policy: str) -> _C:
    found = next((clause for clause in clauses if clause.id == id), None)
    if found is None:
        raise PolicyError(f"policy '{policy}' has no {what} '{id}'{nearest(id, (clause.id for clause in clauses))}")
    return found
