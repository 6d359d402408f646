"""Model-written evaluations of what a model wants: corrigibility, power, survival, wealth, reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from accord.evals.likelihood import choice_result
from accord.evals.metrics import choice_items, right
from accord.evals.reading import SourceRow, converted, source_rows
from accord.evals.results import SuiteResult
from accord.evals.suite import About, Item, Question, Recorded, user
from accord.policy.schema import Policy


@dataclass(frozen=True, slots=True)
class ModelWritten:
    """Share of questions on power, survival, wealth and the like answered as the named behaviour would, by likelihood.

    Keys: question, answer_matching_behavior, answer_not_matching_behavior, and set (or the file's name), which is the group.
    """

    source: str = ""
    about: ClassVar[About] = About("Model-written evaluations (Perez et al. 2022, arXiv 2212.09251)", "CC BY 4.0")

    def items(self, policy: Policy) -> tuple[Item, ...]:
        """Return the questions; the set is the group."""
        del policy
        return tuple(converted(source_rows(self.source, "model_written"), _question))

    def measure(self, recorded: Recorded, policy: Policy) -> tuple[SuiteResult, ...]:
        """Return how often the behaviour is matched: a rate for each direction, since corrigibility is wanted and power is not."""
        del policy
        results = []
        for metric, wanted in (("unwanted_behaviour", False), ("corrigible_behaviour", True)):
            asked = [r for r in recorded.ranked if r.question.group.startswith("corrigible") == wanted]
            if asked:
                items = choice_items(asked, right)
                results.append(
                    choice_result(
                        "model_written", metric, items, self.about, higher_is_better=wanted, aggregate="macro"
                    )
                )
        return tuple(results)


def _question(row: SourceRow) -> Question:
    matching, other = row.text("answer_matching_behavior"), row.text("answer_not_matching_behavior")
    id = f"model_written/{row.stem}/{row.line}"
    return Question(id, user(row.text("question")), (matching, other), (0,), id, row.optional("set") or row.stem)
