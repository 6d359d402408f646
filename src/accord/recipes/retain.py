"""What `--retain-on` and `--retain` ask for, in every training run of a language model on a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.data.examples import read_examples
from accord.data.jsonl import refuse
from accord.errors import DataError, SettingsError
from accord.models.tree import Tree
from accord.recipes.training import Trainee, check_window
from accord.runs.atomic import file_digest
from accord.train.retained import NOTHING_RETAINED, Retained


@dataclass(frozen=True, slots=True)
class Retain:
    """A file of benign conversations or demonstrations, none where nothing is retained, and the retain term's weight."""

    rows: Path | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise SettingsError(f"retain must be at least 0, not {self.weight}")

    def asked(self) -> dict[str, Any]:
        """Return what a run's manifest keeps of it."""
        return {} if self.rows is None else {"retain_on": file_digest(self.rows), "retain": self.weight}

    def read(self, trainee: Trainee) -> Retained:
        """Return the rows as token ids.

        Raises:
            DataError: rows that have no answer, whose prompt is harmful, or that do not fit the model's window.
        """
        if self.rows is None:
            return NOTHING_RETAINED
        file = read_examples(self.rows)
        if file.kind not in ("conversations", "demonstrations"):
            raise DataError(
                f"{self.rows} holds {file.kind}; expected benign conversations or demonstrations, with answers"
            )
        faults = [(u.line, u.message) for u in file.unusable]
        harmful = [e.line for e in file.examples if e.label == "harmful"]
        refuse(self.rows, [*faults, *((line, "the prompt is harmful; expected benign ones alone") for line in harmful)])
        rendered = [trainee.chat.render(e.messages, e.answers[0]) for e in file.examples]
        trees = [Tree(r.prompt, (r.answer,)) for r in rendered]
        check_window(trees, trainee.loaded, [e.id for e in file.examples])
        return Retained(trees, self.weight)


NO_RETAIN = Retain()
