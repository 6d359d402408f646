"""A language model in this process as a judge: the policy's rubric, and P(yes) read from its label tokens.

Two ways. By default nothing is generated: the verdict is the share of "Yes" among the label tokens that could come next. With
`reasoning_tokens` the judge first writes that many tokens of reasoning, and the label is read after it. Either way there is no
text to parse. A judge that writes its verdict as text is `constrained`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accord.errors import DataError
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, window
from accord.models.rollout import generate
from accord.models.sampling import Sampling
from accord.policy.rubric import NO, YES, Rubric, rubric
from accord.policy.schema import Policy
from accord.scorers.blank import blank
from accord.scorers.cache import VerdictCache, key_of
from accord.scorers.label_tokens import LabelShares, forms_of, label_shares, ready
from accord.scorers.quoting import MARKED, quoted
from accord.types import Message, Outcome, Score, Transcript

# Below this the model was about to say something else than a label, and their ratio means nothing.
MIN_MASS = 0.05
TOO_LONG = "longer than the judge's window"
NO_LABEL = "the judge was about to say neither label"
_FORMS = (forms_of(YES), forms_of(NO))
_REASON_FIRST = f"First give the reason in one sentence, then reply {YES} or {NO}."
# Put in the judge's mouth: a label comes next (the starter puts 0.58 of its probability on the labels, 0.38 without it).
_VERDICT = "Verdict:"


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the judge said: P(yes) over the two labels, the mass on them, and its reasoning where it gave one."""

    yes: float
    mass: float
    reason: str = ""


class RubricJudge:
    """Judges by the rubric of each transcript's clause; `threshold` is the least P(yes) that counts as yes.

    `cache` keeps verdicts by the hash of model, template, rubric and text; None keeps nothing.

    Raises:
        PolicyError: a transcript names a clause that the policy lacks.
    """

    by_rubric = True

    def __init__(
        self,
        loaded: LoadedModel,
        policy: Policy,
        *,
        threshold: float = 0.5,
        reasoning_tokens: int = 0,
        cache: VerdictCache | None = None,
    ) -> None:
        self._loaded, self._policy, self._cache = loaded, policy, cache
        self._threshold, self._reasoning_tokens = threshold, reasoning_tokens
        self._chat = ChatFormat(loaded.tokenizer)
        self.name = f"rubric:{loaded.name}"
        template = str(getattr(loaded.tokenizer, "chat_template", ""))
        self._judge = key_of(
            loaded.fingerprint, str(loaded.model.dtype), template, str(reasoning_tokens), _VERDICT, json.dumps(_FORMS)
        )

    @property
    def config_hash(self) -> str:
        """A hash of model, number format, template, policy, labels, threshold and how a verdict is read."""
        parts = (self._judge, self._policy.hash, rubric_prompt("", ""), str(self._threshold), str(MIN_MASS))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def score_all(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return a score a transcript; `value` is P(yes) over the two labels, `evidence` the reasoning."""
        rubrics: dict[tuple[str, str], Rubric] = {
            (t.clause, t.kind): rubric(self._policy, t.clause, t.kind) for t in transcripts
        }
        scores: list[Score | None] = [blank(t, self.name) for t in transcripts]
        asked = [i for i, score in enumerate(scores) if score is None]
        rubric_of = {i: rubrics[transcripts[i].clause, transcripts[i].kind] for i in asked}
        prompts = {
            i: rubric_prompt(rubric_of[i].text, quoted(transcripts[i])[0], self._reasoning_tokens) for i in asked
        }
        verdicts = self._verdicts({prompts[i]: rubric_of[i].text for i in asked})
        return [
            score if score is not None else self._score(rubric_of[i], verdicts[prompts[i]])
            for i, score in enumerate(scores)
        ]

    def _score(self, asked: Rubric, verdict: _Verdict | None) -> Score:
        if verdict is None:
            return Score(Outcome.UNSCORED, self.name, TOO_LONG)
        if verdict.mass < MIN_MASS:
            return Score(Outcome.UNSCORED, self.name, NO_LABEL, verdict.reason)
        yes = verdict.yes >= self._threshold
        cited = f"clause '{asked.clause}'" if asked.clause else "the policy"
        reason = f"{YES if yes else NO} by {cited}: P({YES}) {verdict.yes:.2f}, mass on labels {verdict.mass:.2f}"
        return Score(asked.if_yes if yes else asked.if_no, self.name, reason, verdict.reason, verdict.yes)

    def _verdicts(self, prompts: Mapping[str, str]) -> Mapping[str, _Verdict | None]:
        """Return the verdict on each prompt, given with its rubric's text; None where it does not fit the window."""
        keys = {prompt: key_of(self._judge, prompt) for prompt in prompts}
        kept = self._cache.get(list(keys.values())) if self._cache else {}
        found: dict[str, _Verdict | None] = {p: _Verdict(*json.loads(kept[k])) for p, k in keys.items() if k in kept}
        # Under one rubric prompts begin alike: one rubric after the other, so that each is computed once.
        by_rubric: dict[str, list[str]] = {}
        for prompt, text in prompts.items():
            if prompt not in found:
                by_rubric.setdefault(text, []).append(prompt)
        new: dict[str, _Verdict | None] = {}
        with ready(self._loaded):
            for part in by_rubric.values():
                new |= self._compute(part)
        if self._cache and new:
            self._cache.put({keys[p]: json.dumps([v.yes, v.mass, v.reason]) for p, v in new.items() if v is not None})
        return {**found, **new}

    def _compute(self, prompts: Sequence[str]) -> dict[str, _Verdict | None]:
        room = window(self._loaded.model) - self._reasoning_tokens - 16
        ids: dict[str, tuple[int, ...]] = {}
        for prompt in prompts:
            tokens = self._ids(prompt)
            if tokens is not None and len(tokens) <= room:
                ids[prompt] = tokens
        fitting = list(ids)
        if not fitting:
            return dict.fromkeys(prompts)
        reasons = self._reasons([ids[p] for p in fitting]) if self._reasoning_tokens else [""] * len(fitting)
        asked = [
            ids[p] + self._chat.opening(f"{r}\n{_VERDICT}" if r else _VERDICT)
            for p, r in zip(fitting, reasons, strict=True)
        ]
        shares = label_shares(self._loaded, self._chat, asked, _FORMS)
        told = {p: _verdict(s, r) for p, s, r in zip(fitting, shares, reasons, strict=True)}
        return {p: told.get(p) for p in prompts}

    def _ids(self, prompt: str) -> tuple[int, ...] | None:
        try:
            return self._chat.prompt([Message("user", prompt)])
        except DataError:
            return None

    def _reasons(self, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        sampling = Sampling(self._reasoning_tokens)
        keys = [str(i) for i in range(len(prompts))]
        rollouts = generate(self._loaded.model, prompts, keys, self._chat.end_ids, sampling)
        # Only the first line: a verdict that the model writes by itself must not stand before the one that is read.
        return [self._chat.decode(r.ids).strip().split("\n")[0] for r in rollouts]


def rubric_prompt(rubric_text: str, judged: str, reasoning_tokens: int = 0) -> str:
    """Return what a judge is asked; it begins alike for all texts under one rubric."""
    reply = _REASON_FIRST if reasoning_tokens else f"Reply {YES} or {NO}."
    return "\n".join([rubric_text, MARKED, judged, reply])


def _verdict(shares: LabelShares, reason: str) -> _Verdict:
    return _Verdict(shares.shares[0], shares.mass, reason)
