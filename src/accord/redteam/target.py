"""The model under attack, as one attack on one goal sees it: every question is counted, recorded and judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from accord.errors import AccordError
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.sampling import Sampling
from accord.types import Attempt, Conversation, Message, Outcome, Prompt, ResponseMode, Score, Transcript, gave_harm

Judge = Callable[[Transcript], Awaitable[Score]]
# What the judge reads in place of an answer (a translation of it), or the verdict where no judge need be asked.
Reader = Callable[[str], Awaitable[str | Score]]


class BudgetSpentError(AccordError):
    """An attack asked once more than its budget allows; the campaign ends the attack there and keeps its attempts."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What an attack may spend on one goal. `steps` bounds a white-box search, whose steps are no queries."""

    queries: int = 12
    steps: int = 50


@dataclass
class Target:
    """A model under attack. `attacker` writes for attacks that need a writer; by default it is the model itself.

    `mode` is how the policy has requests under the goal's clause answered, and so what counts as a success. `attempts` holds every
    attempt so far, in order, also where the attack is then cut off.
    """

    completer: Completer
    judge: Judge
    goal: Prompt
    attack: str
    budget: Budget
    sampling: Sampling
    attacker: Completer
    mode: ResponseMode
    attempts: list[Attempt] = field(default_factory=list)
    _n_written: int = 0

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the model can do beside answering."""
        return self.completer.abilities

    @property
    def left(self) -> int:
        """How many queries are left."""
        return self.budget.queries - len(self.attempts)

    def succeeded(self, attempt: Attempt) -> bool:
        """Whether the model gave what the goal asks for, or some of it, where the clause does not accept that."""
        return gave_harm(self.mode, attempt.score.outcome)

    async def ask(
        self,
        sent: Conversation,
        prefill: str = "",
        note: str = "",
        read: Reader | None = None,
        on_the_way: bool = False,
    ) -> Attempt:
        """Put a conversation to the model and have its answer judged; an error is an attempt with that outcome.

        `note` is kept with the attempt; `read` stands between the answer and the judge, and what it returns is noted too. A
        question that is `on_the_way` does not ask for the goal yet.

        Raises:
            BudgetSpentError: the budget is spent.
        """
        number, id = self._take_place(sent, prefill, note)
        completion = await self.completer.complete(Request(sent, self.sampling, id, prefill))
        attempt = await self._settle(number, id, sent, prefill, completion, note, read)
        if on_the_way:
            attempt = self.attempts[number - 1] = replace(attempt, on_the_way=True)
        return attempt

    async def record(self, sent: Conversation, completion: Completion, note: str) -> Attempt:
        """Count and judge, as one query, an answer that was obtained otherwise than by `ask`; `note` says how.

        Raises:
            BudgetSpentError: the budget is spent.
        """
        number, id = self._take_place(sent, "", note)
        return await self._settle(number, id, sent, "", completion, note, None)

    def _take_place(self, sent: Conversation, prefill: str, note: str) -> tuple[int, str]:
        """Take a place among the attempts before the model is asked: several questions may be in flight."""
        if self.left <= 0:
            raise BudgetSpentError(f"{self.attack}: {self.budget.queries} queries on goal '{self.goal.id}' are spent")
        number = len(self.attempts) + 1
        id = f"{self.attack}/{self.goal.id}/{number}"
        self.attempts.append(
            self._attempt(id, sent, prefill, Completion(""), Score(Outcome.UNSCORED, "", "in flight"), number, note)
        )
        return number, id

    async def _settle(
        self,
        number: int,
        id: str,
        sent: Conversation,
        prefill: str,
        completion: Completion,
        note: str,
        read: Reader | None,
    ) -> Attempt:
        if completion.error:
            score = Score(Outcome.ERROR, "", completion.error)
        else:
            score, note = await self._verdict(sent, prefill, completion.text, note, read)
        attempt = self._attempt(id, sent, prefill, completion, score, number, note)
        self.attempts[number - 1] = attempt
        return attempt

    async def _verdict(
        self, sent: Conversation, prefill: str, text: str, note: str, read: Reader | None
    ) -> tuple[Score, str]:
        """Return the verdict on an answer, and the note with what was read in its place."""
        # A prefill that nothing follows is no answer: the judge would read our own words as the model's.
        answer = prefill + text if text.strip() else ""
        if read is not None and answer:
            found = await read(answer)
            if isinstance(found, Score):
                return found, note
            if found != answer:
                answer, note = found, "; ".join(filter(None, (note, f"judged as: {found}")))
        return await self.judged(sent, answer, self.goal.messages[-1].content), note

    async def judged(self, sent: Conversation, answer: str, goal: str) -> Score:
        """Have an answer judged against `goal`, which may be less than the attack's own: a step on the way to it."""
        return await self.judge(Transcript(sent, answer, self.goal.kind, self.goal.clause, goal))

    async def write(self, messages: Conversation, max_new_tokens: int = 160, temperature: float = 0.8) -> str:
        """Have the attacker write; an empty text where it failed. Its words are no query to the model under attack."""
        sampling = Sampling(max_new_tokens, temperature, self.sampling.seed)
        # Counted, so that two branches which ask for the same thing are not given the same words.
        self._n_written += 1
        key = f"{self.attack}/{self.goal.id}/write/{self._n_written}"
        return (await self.attacker.complete(Request(messages, sampling, key))).text.strip()

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Return the log-probability of each answer under the model.

        Raises:
            ModelError: the model does not tell.
        """
        return await self.completer.logps(messages, answers)

    def _attempt(
        self, id: str, sent: Conversation, prefill: str, completion: Completion, score: Score, number: int, note: str
    ) -> Attempt:
        return Attempt(
            id=id,
            prompt=self.goal,
            condition=self.completer.name,
            answer=completion.text,
            n_tokens=completion.n_tokens,
            truncated=completion.truncated,
            score=score,
            seed=self.sampling.seed,
            attack=self.attack,
            sent=sent,
            prefill=prefill,
            queries=number,
            note=note,
        )


def user(text: str) -> Conversation:
    """Return a conversation of one user's turn."""
    return (Message("user", text),)


def in_place(goal: Prompt, text: str) -> Conversation:
    """Return the goal's conversation with `text` as its last turn."""
    return (*goal.messages[:-1], Message("user", text))
