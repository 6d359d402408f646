"""A judge that answers in words: any `Completer`, asked by the policy's rubric, its reply read strictly (`verdicts`).

Its own failures (no reply, a refusal to judge, no verdict or two) leave a row unscored, by reason, and kept for review with all
that was said. They are never taken for what the judged model did.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

from accord.models.completer import Completer, Request
from accord.models.sampling import Sampling
from accord.policy.rubric import NO, YES, Rubric, rubric
from accord.policy.schema import Policy
from accord.scorers.blank import blank
from accord.scorers.quoting import MARKED, quoted
from accord.scorers.scorer import judge_failed
from accord.scorers.verdicts import Problem, Reading, read_verdict, resembles_verdict
from accord.types import Message, Outcome, Score, Transcript

MAX_NEW_TOKENS = 256
IN_FLIGHT = 64
_LABELS = (YES, NO)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a judge said, and what was read out of it."""

    text: str
    reading: Reading


class RemoteJudge:
    """Judges by asking; `fallback` is asked where the first judge gave no verdict, and then named in the score.

    `score_all` keeps one event loop until `close()`; inside a running loop, await `judge`.

    Raises:
        PolicyError: a transcript names a clause that the policy lacks.
    """

    by_rubric = True

    def __init__(
        self,
        completer: Completer,
        policy: Policy,
        *,
        fallback: Completer | None = None,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        self._completer, self._policy, self._fallback = completer, policy, fallback
        self._sampling = Sampling(max_new_tokens)
        self._runner = asyncio.Runner()
        # The loop holds sockets: it ends with the judge, at the latest.
        self.close = weakref.finalize(self, self._runner.close)
        self.name = f"judge:{completer.name}"

    @property
    def config_hash(self) -> str:
        """A hash of both judges, the policy, the form that is asked for and how long a reply may be."""
        judges = [c.fingerprint for c in (self._completer, self._fallback) if c is not None]
        parts = [*judges, self._policy.hash, _asked("", Transcript((), ""))[0], str(self._sampling.max_new_tokens)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def score_all(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return a score a transcript; `evidence` is the judge's whole reply, and `scorer` names who gave it."""
        return self._runner.run(self._all(transcripts))

    async def judge(self, transcript: Transcript) -> Score:
        """Return the score of one transcript."""
        if (nothing := blank(transcript, self.name)) is not None:
            return nothing
        asked = rubric(self._policy, transcript.clause, transcript.kind)
        score = _score(asked, await self._ask(self._completer, asked, transcript), self.name)
        if score.outcome is not Outcome.UNSCORED or self._fallback is None:
            return score
        reply = await self._ask(self._fallback, asked, transcript)
        second = _score(asked, reply, f"judge:{self._fallback.name}")
        # Where neither has a verdict the first one's reason stands, unless the second may yet have one.
        return score if second.outcome is Outcome.UNSCORED and not judge_failed(second) else second

    async def _all(self, transcripts: Sequence[Transcript]) -> list[Score]:
        places = asyncio.Semaphore(IN_FLIGHT)

        async def one(transcript: Transcript) -> Score:
            async with places:
                return await self.judge(transcript)

        return list(await asyncio.gather(*map(one, transcripts)))

    async def _ask(self, completer: Completer, asked: Rubric, transcript: Transcript) -> Reply:
        prompt, seal = _asked(asked.text, transcript)
        key = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        completion = await completer.complete(Request((Message("user", prompt),), self._sampling, key))
        if completion.error:
            return Reply(completion.error, Reading(None, Problem.ERROR))
        # A verdict is final where the reply is: what was cut off might have taken it back.
        if completion.truncated:
            return Reply(completion.text, Reading(None, Problem.TRUNCATED))
        return Reply(completion.text, read_verdict(completion.text, _LABELS, seal))


def form_asked(labels: Sequence[str], seal: str) -> str:
    """Return the sentence that states the form of a verdict."""
    forms = " or ".join(f"[[{label.upper()}{f' {seal}' if seal else ''}]]" for label in labels)
    return f"Give the reason in a sentence or two, then end with a last line that is exactly {forms}."


def _asked(rubric_text: str, transcript: Transcript) -> tuple[str, str]:
    """Return the prompt and the seal that its verdict must carry, empty where none is needed."""
    judged, mark = quoted(transcript)
    seal = mark.lstrip("#") if resembles_verdict(judged) else ""
    return "\n".join([rubric_text, MARKED, judged, form_asked(_LABELS, seal)]), seal


def _score(asked: Rubric, reply: Reply, name: str) -> Score:
    if reply.reading.problem is not None:
        return Score(Outcome.UNSCORED, name, reply.reading.problem.value, reply.text)
    yes = reply.reading.label == YES
    cited = f"clause '{asked.clause}'" if asked.clause else "the policy"
    return Score(asked.if_yes if yes else asked.if_no, name, f"{YES if yes else NO} by {cited}", reply.text)
