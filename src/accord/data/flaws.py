"""What is wrong with training data, by code: whether it is an error or a warning, what it means, and where it was seen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from accord.data.checks import Flaw
from accord.data.examples import Example
from accord.data.messages import messages_to_rows
from accord.data.personal import personal_data
from accord.errors import DataError
from accord.models.chat import ChatFormat
from accord.stats import proportion
from accord.types import Estimate

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Code:
    """A kind of flaw: how severe it is, and what it does to a training run."""

    severity: Severity
    meaning: str


# An error is what a run cannot learn from, or what would make its evaluation worthless; a warning is what a person should know.
CODES: Mapping[str, Code] = {
    "malformed": Code("error", "rows that cannot be read"),
    "ends-in-assistant": Code("error", "prompts that end with no user's turn, so an answer would follow an answer"),
    "identical": Code("error", "chosen and rejected are equal: the margin is 0 for ever"),
    "empty-answer": Code("error", "an answer is empty: nothing would be supervised"),
    "nothing-supervised": Code("error", "the answer has no token of its own under this template"),
    "template-refuses": Code("error", "conversations that the model's chat template does not take"),
    "over-window": Code("error", "rows longer than the model's window: training cuts none, so it refuses them"),
    "contamination": Code("error", "rows that repeat an evaluation row: what is measured on it says nothing"),
    "contradiction": Code("warning", "the same answers, preferred or marked the other way round elsewhere"),
    "duplicate": Code("warning", "the same prompt and answers as an earlier row: they count twice"),
    "control-token": Code(
        "warning", "text that spells a control token of the template; it is trained on as plain text"
    ),
    "length-bias": Code("warning", "length alone tells chosen from rejected: a model learns it first"),
    "label-balance": Code("warning", "one label is rare"),
    "personal-data": Code("warning", "personal data, which a model may repeat"),
}
RARE_LABEL = 0.1


def repeated(examples: Sequence[Example]) -> list[Flaw]:
    """Return exact duplicates, and rows that contradict an earlier one: a pair turned round, a rating with the other label."""
    first: dict[str, Example] = {}
    found: list[Flaw] = []
    for e in examples:
        own, turned = (_canonical(e, answers) for answers in (e.answers, e.answers[::-1]))
        before = first.setdefault(own, e)
        if before is not e and (len(e.answers) == 2 or before.label == e.label):
            found.append(Flaw("duplicate", e.line, f"as line {before.line}"))
        elif before is not e:
            found.append(Flaw("contradiction", e.line, f"line {before.line} marks the same answer {before.label}"))
        elif len(e.answers) == 2 and turned in first:
            found.append(Flaw("contradiction", e.line, f"line {first[turned].line} prefers the other answer"))
    return found


def _canonical(e: Example, answers: Sequence[str]) -> str:
    return json.dumps([messages_to_rows(e.messages), list(answers)], sort_keys=True)


def private(examples: Sequence[Example]) -> list[Flaw]:
    """Return personal data, masked, once a row and kind."""
    found: list[Flaw] = []
    for e in examples:
        seen = {d.kind: d.masked for text in _texts(e) for d in personal_data(text)}
        found += [Flaw("personal-data", e.line, f"{kind} {masked}") for kind, masked in sorted(seen.items())]
    return found


def of_tokens(examples: Sequence[Example], chat: ChatFormat, window: int) -> list[Flaw]:
    """Return what only the model's own tokenizer shows: rows over its window, spelled control tokens, nothing supervised."""
    n_end = len(chat.answer(""))
    found: list[Flaw] = []
    for e in examples:
        spelled = sorted({token for text in _texts(e) for token in chat.control_tokens if token in text})
        if spelled:
            found.append(Flaw("control-token", e.line, ", ".join(spelled)))
        try:
            n_prompt = len(chat.prompt(e.messages))
        except DataError as error:
            found.append(Flaw("template-refuses", e.line, str(error)))
            continue
        sizes = [len(chat.answer(answer)) for answer in e.answers]
        if any(size == n_end for size in sizes):
            found.append(Flaw("nothing-supervised", e.line, "an answer becomes no token"))
        if n_prompt + max(sizes, default=0) > window:
            found.append(Flaw("over-window", e.line, f"{n_prompt + max(sizes, default=0)} tokens, of {window}"))
    return found


def longer_chosen(pairs: Iterable[Sequence[str]]) -> Estimate:
    """Return how often the chosen answer is longer than the rejected one, in characters; equal lengths are counted apart."""
    leads = [len(chosen) - len(rejected) for chosen, rejected in pairs]
    ties = leads.count(0)
    return proportion(sum(n > 0 for n in leads), len(leads) - ties, {"tie": ties} if ties else {})


def length_bias(longer: Estimate) -> list[Flaw]:
    """Return a flaw where the interval of `longer_chosen` leaves out one half."""
    if longer.value is None or longer.low is None or longer.high is None or longer.low <= 0.5 <= longer.high:
        return []
    if longer.value > 0.5:
        word, share, low, high = "longer", longer.value, longer.low, longer.high
    else:
        word, share, low, high = "shorter", 1 - longer.value, 1 - longer.high, 1 - longer.low
    message = f"the chosen answer is the {word} one in {share:.1%} [{low:.1%}, {high:.1%}] of {longer.n} pairs"
    return [Flaw("length-bias", 0, message)]


def labels(examples: Iterable[Example]) -> Counter[str]:
    """Return how many rows carry each label, where rows carry one."""
    return Counter(e.label for e in examples if e.label)


def label_balance(counts: Mapping[str, int]) -> list[Flaw]:
    """Return each label that fewer than a tenth of the rows carry."""
    n = sum(counts.values())
    return [
        Flaw("label-balance", 0, f"'{name}': {count} of {n} rows ({count / n:.1%})")
        for name, count in sorted(counts.items())
        if count < RARE_LABEL * n
    ]


def _texts(e: Example) -> list[str]:
    return [*(m.content for m in e.messages), *e.answers]
