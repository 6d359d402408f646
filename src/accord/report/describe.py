"""Numbers in words: percentages with their interval and n, and the verdict that opens a report.

Sentences follow the numbers: a change is called a fall or a rise only where the paired interval excludes no change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from accord.evals.gates import GateResult, GateStatus
from accord.evals.summary import (
    NOT_AN_ANSWER_LIMIT,
    Comparison,
    Condition,
    Rates,
    not_an_answer,
    outcome_counts,
    paired_attempts,
    unscored_share,
)
from accord.policy.schema import Gate
from accord.stats.paired import PairedDifference
from accord.types import UNCALIBRATED, Estimate, Kind, Outcome

NOT_MEASURED = "not measured"
MEASURES: Mapping[str, str] = {
    "harmful_compliance": "harmful compliance",
    "contrast_refusal": "refusal of contrast prompts",
    "ordinary_refusal": "refusal of ordinary prompts",
    "not_an_answer": "answers that are no answer",
    "capability": "capability",
    "capability_change": "change in capability",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The opening of a report: what must be known first, the result in one line, and the account of it."""

    warnings: tuple[str, ...]
    headline: str
    sentences: tuple[str, ...]


def percent(value: float | None, digits: int = 1) -> str:
    """Return `12.3%`, or "not measured"."""
    return NOT_MEASURED if value is None else f"{value:.{digits}%}"


def points(value: float | None) -> str:
    """Return a difference of two rates as signed percentage points, `−58.9`, or "not measured"."""
    if value is None:
        return NOT_MEASURED
    shown = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if shown in ("+0.0", "−0.0") else shown


def interval(estimate: Estimate) -> str:
    """Return `8.1% to 18.2%`, or why there is none."""
    if estimate.low is None or estimate.high is None:
        return "no interval" if estimate.value is not None else ""
    return f"{percent(estimate.low)} to {percent(estimate.high)}"


def points_interval(estimate: Estimate) -> str:
    """Return the interval of a difference, `−66.0 to −50.8`."""
    if estimate.low is None or estimate.high is None:
        return "no interval" if estimate.value is not None else ""
    return f"{points(estimate.low)} to {points(estimate.high)}"


def counts(estimate: Estimate) -> str:
    """Return `n = 118, 2 unscored`."""
    return f"n = {estimate.n:,}, {estimate.n_unscored:,} unscored"


def full(estimate: Estimate) -> str:
    """Return the number, its interval, n and unscored in one phrase."""
    if estimate.value is None:
        return f"{NOT_MEASURED} ({counts(estimate)})"
    spread = interval(estimate)
    return (
        f"{percent(estimate.value)} ({'' if spread == 'no interval' else '95% interval '}{spread}, {counts(estimate)})"
    )


def corrected(estimate: Estimate) -> str:
    """Return a rate corrected for the judge's error with its interval, or that the correction is undefined."""
    return "undefined" if estimate.value is None else f"{percent(estimate.value)} ({interval(estimate)})"


def per_success(per_query: Estimate) -> str:
    """Return what a success costs: "a success for every 3.2 questions (2.1 to 5.0)"; without one, what is ruled out."""
    if per_query.value is None:
        return NOT_MEASURED
    if not per_query.value:
        least = f"; more than one in {1 / per_query.high:,.1f} is ruled out" if per_query.high else ""
        return f"no success in {per_query.n:,} questions{least}"
    low, high = per_query.low, per_query.high
    most = f"{1 / low:,.1f}" if low else "no limit"
    spread = f" ({1 / high:,.1f} to {most})" if high else ""
    return f"a success for every {1 / per_query.value:,.1f} questions{spread}"


def p_value(value: float | None) -> str:
    """Return a p-value with two digits, never as 0."""
    if value is None:
        return NOT_MEASURED
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def direction(paired: PairedDifference) -> str:
    """Return fell, rose or unclear by the paired interval; "not measured" without a pair."""
    low, high = paired.difference.low, paired.difference.high
    if paired.difference.value is None or low is None or high is None:
        return NOT_MEASURED
    return "fell" if high < 0 else "rose" if low > 0 else "unclear"


def warnings(conditions: Sequence[tuple[Condition, Rates]], aligned: str) -> tuple[str, ...]:
    """Return what must be read before any number: conditions whose answers are no answers or had no verdict."""
    ordered = sorted(conditions, key=lambda pair: pair[0].name != aligned)
    return tuple(line for condition, rates in ordered for line in _warnings_of(condition, rates))


def _warnings_of(condition: Condition, rates: Rates) -> list[str]:
    lines = []
    if _over(rates.not_an_answer.value):
        lines.append(_no_answers(condition, "attempts", rates.not_an_answer, None))
    else:
        kinds: tuple[Kind, ...] = ("harmful", "contrast", "ordinary")
        for kind in kinds:
            share = not_an_answer(attempt for attempt in condition.attempts if attempt.prompt.kind == kind)
            if _over(share.value):
                lines.append(_no_answers(condition, f"{kind} prompts", share, kind))
    unread = unscored_share(rates.capability)
    if _over(unread):
        lines.append(
            f"Under “{condition.name}”, {percent(unread)} of {rates.capability.n + rates.capability.n_unscored:,} "
            f"capability questions could not be scored: {_listed(rates.capability.unscored)}."
        )
    return lines


def _no_answers(condition: Condition, what: str, share: Estimate, kind: Kind | None) -> str:
    by_kind = outcome_counts(condition.attempts)
    rows = [row for name, row in by_kind.items() if kind in (None, name)]
    names = (Outcome.EMPTY, Outcome.DEFLECTED, Outcome.UNSCORED, Outcome.ERROR)
    total = {outcome.value: sum(row[outcome] for row in rows) for outcome in names}
    return (
        f"Under “{condition.name}”, {percent(share.value)} of {share.n:,} {what} ended in no answer that counts "
        f"({_listed(total)}). That is over {percent(NOT_AN_ANSWER_LIMIT, 0)}: the model or the measurement fails "
        "there, and the other numbers of this condition speak only for the rest."
    )


def verdict(
    conditions: Sequence[tuple[Condition, Rates]],
    aligned: str,
    comparison: Comparison,
    gates: Sequence[GateResult],
) -> Verdict:
    """Return the opening of the report in plain words; `conditions` begin with the base."""
    base, before = conditions[0]
    condition, after = next(pair for pair in conditions if pair[0].name == aligned)
    others = [pair for pair in conditions[1:] if pair[0].name != aligned]
    sentences = [_gates(gates)] if gates else []
    sentences += [_what_was_measured(base, condition), _harm(before, after, comparison)]
    sentences.append(_cost(before, after, comparison))
    if others:
        each = "; ".join(f"“{other.name}” {_short(rates.harmful_compliance)}" for other, rates in others)
        sentences.append(f"Harmful compliance under the other conditions, for comparison: {each}.")
    headline = " ".join([_headline(before, after, comparison), *_unanswered((base, condition))])
    return Verdict(warnings(conditions, aligned), headline, tuple(sentences))


def _headline(before: Rates, after: Rates, comparison: Comparison) -> str:
    first, last = before.harmful_compliance, after.harmful_compliance
    if first.value is None or last.value is None:
        return "Harmful compliance was not measured both before and after, so nothing is shown about safety."
    change = f"from {percent(first.value)} to {percent(last.value)}"
    words = {
        "fell": f"Harmful compliance fell {change}.",
        "rose": f"Harmful compliance rose {change}.",
        "unclear": f"It is unclear if harmful compliance changed: {percent(first.value)} to {percent(last.value)}.",
        NOT_MEASURED: f"Harmful compliance went {change}, on different prompts: the two cannot be compared in pairs.",
    }
    return words[direction(comparison.harmful_compliance)]


def _unanswered(conditions: Sequence[Condition]) -> list[str]:
    """Return a caution for each condition whose harmful prompts went unanswered: silence must not pass for safety."""
    lines = []
    for condition in conditions:
        share = not_an_answer(attempt for attempt in condition.attempts if attempt.prompt.kind == "harmful")
        if _over(share.value):
            lines.append(
                f"But {percent(share.value)} of the harmful prompts put to “{condition.name}” got no real answer."
            )
    return lines


def _what_was_measured(base: Condition, aligned: Condition) -> str:
    both = [ours for ours, _ in paired_attempts(base.attempts, aligned.attempts)]
    kinds: tuple[Kind, ...] = ("harmful", "contrast", "ordinary", "principle")
    shares = {f"{kind}": sum(attempt.prompt.kind == kind for attempt in both) for kind in kinds}
    if not both:
        return f"“{base.name}” and “{aligned.name}” share no prompts."
    families = len({attempt.prompt.family for attempt in both})
    never = " Neither they nor any prompt of their families may be trained on (the verify split)."
    sealed = never if all(attempt.prompt.split == "verify" for attempt in both) else ""
    return (
        f"“{base.name}” and “{aligned.name}” were asked the same {len(both):,} prompts of {families:,} families: "
        f"{_listed(shares)}.{sealed}"
    )


def _harm(before: Rates, after: Rates, comparison: Comparison) -> str:
    paired = comparison.harmful_compliance
    text = f"Harmful compliance: {full(before.harmful_compliance)} before, {full(after.harmful_compliance)} after."
    if paired.difference.value is None:
        return text
    return (
        f"{text} Over the {paired.n:,} prompts assessed both times the change is {points(paired.difference.value)} "
        f"percentage points ({points_interval(paired.difference)})."
    )


def _cost(before: Rates, after: Rates, comparison: Comparison) -> str:
    parts = []
    for name, first, last, paired in (
        ("contrast prompts refused", before.contrast_refusal, after.contrast_refusal, comparison.contrast_refusal),
        ("ordinary prompts refused", before.ordinary_refusal, after.ordinary_refusal, comparison.ordinary_refusal),
        ("capability questions right", before.capability, after.capability, comparison.capability),
    ):
        if first.value is None and last.value is None:
            parts.append(f"{name} were {NOT_MEASURED}")
            continue
        parts.append(f"{name} {_short(first)} before and {_short(last)} after ({_changed(paired)})")
    return f"What it costs: {'; '.join(parts)}."


def _changed(paired: PairedDifference) -> str:
    """Return the change with its interval; "unclear" is said with how far it may reach, for it is not "none"."""
    words = {"fell": "a fall", "rose": "a rise", "unclear": "unclear"}
    if (how := words.get(direction(paired))) is None:
        return "not compared in pairs"
    return f"{how}: {points(paired.difference.value)} points, {points_interval(paired.difference)}"


def _short(estimate: Estimate) -> str:
    return NOT_MEASURED if estimate.value is None else f"{percent(estimate.value)} [{interval(estimate)}]"


def _gates(results: Sequence[GateResult]) -> str:
    met = sum(result.status is GateStatus.MET for result in results)
    if met == len(results):
        return f"All {met} release gates are met." if met > 1 else "The release gate is met."
    rest = "; ".join(
        f"{gate_words(r.gate)}: {r.status.value} ({r.reason})" for r in results if r.status is not GateStatus.MET
    )
    if len(results) == 1:
        return f"The release gate is not met: {rest}."
    return f"Of {len(results)} release gates, {met} {'is' if met == 1 else 'are'} met. Not met: {rest}."


def gate_words(gate: Gate) -> str:
    """Return a gate in words: "harmful compliance at most 5.0%"."""
    limit = f"{points(gate.limit)} points" if gate.measure == "capability_change" else percent(gate.limit)
    return f"{MEASURES.get(gate.measure, gate.measure)} {gate.bound} {limit}"


def limits(conditions: Sequence[Condition], scorer: str, calibration: str) -> tuple[str, ...]:
    """Return what this evidence cannot tell, as far as it can be read from the evidence itself."""
    base = conditions[0]
    samples = len(base.attempts) / max(1, len({attempt.prompt.id for attempt in base.attempts}))
    lines = [
        "Whether an attacker who adapts would succeed. The prompts are fixed; nobody searched for a way round it.",
        "Anything beyond these prompts: other languages, long conversations, tools, images, or hazards that the policy "
        "does not name.",
        f"Whether an answer is correct, or harmful in fact. The scorer ({scorer}) reads whether a request was met or "
        "declined, not what the answer could do in the world.",
        "How much the numbers would move with another training seed. One model was trained; the intervals cover the "
        "choice of prompts only.",
    ]
    if samples <= 1:
        lines.append("How often an answer changes from sample to sample: each prompt was asked once.")
    if calibration == UNCALIBRATED:
        lines.append("The scorer's own error: it is uncalibrated, and no interval here includes it.")
    else:
        lines.append(
            "The scorer's error on these answers: it was calibrated on others, and only the corrected rates include it."
        )
    lines += [
        "Which of many differences are chance. The tests are not corrected for how many are shown; a hazard with few "
        "prompts has a wide interval and should be read by it.",
        "Whether to release. That weighs benefits, users and safeguards that no table here has.",
    ]
    return tuple(lines)


def moment(text: str) -> str:
    """Return an ISO date and time as `15 January 2026, 10:24 UTC`, and anything else as it is."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return text
    zone = when.tzname() or ""
    return f"{when.day} {when:%B %Y, %H:%M} {zone}".strip()


def duration(seconds: float | None) -> str:
    """Return `1 h 04 min`, `12 min 03 s` or `8.4 s`."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _over(share: float | None) -> bool:
    return share is not None and share > NOT_AN_ANSWER_LIMIT


def _listed(numbers: Mapping[str, int]) -> str:
    """Return `14 empty, 2 unscored`, leaving out what is none."""
    return ", ".join(f"{count:,} {name}" for name, count in numbers.items() if count) or "none"
