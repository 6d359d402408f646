"""The rates of a finished evaluation, corrected by people's labels of a part of its own answers: prediction-powered inference.

No calibration is needed, for the labelled part corrects the judge whatever its error; it must be a random part of the answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.evals.metrics import REFUSALS, mode_under
from accord.evals.results import Evaluation, SuiteResult, estimate
from accord.policy.schema import Policy
from accord.scorers.labels import Label, LabelledAnswer, Question
from accord.stats.prediction_powered import prediction_powered_rate
from accord.types import Attempt, Estimate, Outcome, gave_harm, last_user_text

_OUTCOME: Mapping[Label, Outcome] = {
    "complied": Outcome.COMPLIED,
    "partial": Outcome.PARTIAL,
    "refused": Outcome.REFUSED,
    "yes": Outcome.COMPLIED,
    "no": Outcome.REFUSED,
}


@dataclass(frozen=True, slots=True)
class PoweredRate:
    """One metric's rate as the judge has it, and with people's labels; the latter's `n` is how many answers they labelled."""

    suite: str
    metric: str
    raw: Estimate
    powered: Estimate


@dataclass(frozen=True, slots=True)
class LabelledPart:
    """The rates, and how many labels belong to no answer of the evaluation."""

    rates: tuple[PoweredRate, ...]
    n_labels: int
    unmatched: int


def with_labels(
    evaluation: Evaluation,
    answers: Mapping[str, Sequence[Attempt]],
    labels: Sequence[LabelledAnswer],
    question: Question,
    policy: Policy,
) -> LabelledPart:
    """Return every rate that a judge's verdicts make up, raw and by PPI++.

    A label belongs to each answer of its text to a prompt of its text (the one that was sent, or the goal in plain words); of
    several the mean counts. An answer that the judge could not score is outside both rates. Of what is asked, `refusal` corrects
    all rates; `objective` and `harm` those of compliance, a yes being compliance.

    Raises:
        PolicyError: a harmful prompt cites a hazard that the policy lacks.
    """
    said: dict[tuple[str, str], list[Outcome]] = {}
    for row in labels:
        said.setdefault((row.prompt.strip(), row.answer.strip()), []).append(_OUTCOME[row.label])
    used: set[tuple[str, str]] = set()
    rates = []
    for result in evaluation.results:
        if not result.counts or (question != "refusal" and result.counts != "complied"):
            continue
        # A suite of one's own may call its numbers otherwise than its class, after which its answers lie.
        own = answers[result.suite] if result.suite in answers else [a for part in answers.values() for a in part]
        by_id = {a.id: a for a in own}
        people: dict[str, float] = {}
        for item in result.items:
            attempt = by_id.get(item.id)
            key = next((k for k in _keys(attempt) if k in said), None) if attempt else None
            if attempt is None or key is None:
                continue
            used.add(key)
            hits = [_hit(result, attempt, outcome, policy) for outcome in said[key]]
            people[item.id] = sum(hits) / len(hits)
        rates.append(PoweredRate(result.suite, result.metric, estimate(result), _powered(result, people)))
    return LabelledPart(tuple(rates), len(labels), sum(len(rows) for key, rows in said.items() if key not in used))


def _powered(result: SuiteResult, people: Mapping[str, float]) -> Estimate:
    scored = [(i.id, i.value, i.family or i.id) for i in result.items if i.value is not None]
    known = [row for row in scored if row[0] in people]
    rest = [row for row in scored if row[0] not in people]
    return prediction_powered_rate(
        [people[id] for id, _, _ in known],
        [value for _, value, _ in known],
        [value for _, value, _ in rest],
        [family for _, _, family in known],
        [family for _, _, family in rest],
        result.unscored,
    )


def _keys(attempt: Attempt) -> list[tuple[str, str]]:
    asked = (attempt.sent or attempt.prompt.messages, attempt.prompt.messages)
    answer = f"{attempt.prefill}{attempt.answer}".strip()
    return [(last_user_text(messages).strip(), answer) for messages in asked]


def _hit(result: SuiteResult, attempt: Attempt, outcome: Outcome, policy: Policy) -> bool:
    """Say whether an outcome counts in the rate, as the suites have it (`evals.answers`)."""
    if result.counts == "refused":
        return outcome in REFUSALS
    return gave_harm(mode_under(attempt.prompt.clause, policy), outcome)
