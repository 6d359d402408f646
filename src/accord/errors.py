"""The one exception tree of Accord.

    AccordError
     ├── InputError            what the user gave is wrong: exit code 2
     │    ├── DataError        a row, file or set (names file and line)
     │    ├── PolicyError      a policy document (names file, line and clause)
     │    ├── ModelError       a model that cannot be loaded or lacks something needed
     │    └── SettingsError    unknown or impossible options, all in one message
     ├── GateError             measured, and a release gate failed: exit code 1
     └── NotMeasuredError      nothing could be measured, so there is no number: exit code 3

Every message is one that a person can act on: what was given, where, what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AccordError(Exception):
    """Base of all errors that Accord raises on purpose."""

    exit_code: int = 2


class InputError(AccordError):
    """What the user gave cannot be used."""


class DataError(InputError):
    """A data file or row is missing, malformed or unusable. `code` is the fault's name in `accord data check`."""

    def __init__(self, message: str, code: str = "malformed") -> None:
        super().__init__(message)
        self.code = code


class PolicyError(InputError):
    """A policy document is malformed."""


class ModelError(InputError):
    """A model cannot be loaded, or lacks something that was asked of it."""


class SettingsError(InputError):
    """Unknown or contradictory options."""


class GateError(AccordError):
    """Everything was measured, and a gate failed."""

    exit_code = 1


class NotMeasuredError(AccordError):
    """Nothing could be measured; no rate exists."""

    exit_code = 3


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else ""
