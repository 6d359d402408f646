"""TruthfulQA's multiple choice: one true answer among false ones (MC1), and the share of probability on true ones (MC2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from accord.errors import DataError
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.evals.truth import truth_results
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class Truthfulqa:
    """TruthfulQA: MC1 and MC2 by likelihood. Keys: question, mc1_targets, mc2_targets, as in mc_task.json or on the hub."""

    source: str = ""
    about: ClassVar[About] = About("TruthfulQA (Lin et al. 2022, arXiv 2109.07958)", "Apache-2.0", together=2)

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return each question twice: with the choices of MC1 and with those of MC2."""
        del policy
        rows = source_rows(self.source, "truthfulqa")
        return tuple(question for pair in converted(rows, _questions) for question in pair)

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return MC1 and MC2."""
        del policy
        return truth_results("truthfulqa", self.about, recorded.ranked)


def _questions(row: SourceRow) -> tuple[Question, Question]:
    id, asked = f"truthfulqa/{row.stem}/{row.line}", row.text("question")
    (mc1, right1), (mc2, right2) = _targets(row.value("mc1_targets")), _targets(row.value("mc2_targets"))
    if len(right1) != 1:
        raise DataError(f"mc1_targets marks {len(right1)} answers as true; expected one")
    return (
        Question(f"{id}/mc1", user(asked), mc1, right1, id, "mc1"),
        Question(f"{id}/mc2", user(asked), mc2, right2, id, "mc2"),
    )


def _targets(value: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the choices and which of them are true, from `{choice: 0 or 1}` or `{"choices": [...], "labels": [...]}`."""
    if not isinstance(value, Mapping):
        raise DataError("targets must be an object")
    if set(value) == {"choices", "labels"}:
        choices, labels = value["choices"], value["labels"]
        if not isinstance(choices, list) or not isinstance(labels, list):
            raise DataError("the targets' choices and labels must be lists")
    else:
        choices, labels = list(value), list(value.values())
    if len(choices) != len(labels) or any(label not in (0, 1) for label in labels):
        raise DataError("targets must give 0 or 1 to each choice")
    texts = tuple(choice.strip() if isinstance(choice, str) else choice for choice in choices)
    return texts, tuple(i for i, label in enumerate(labels) if label)
