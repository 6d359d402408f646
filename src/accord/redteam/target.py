"""The model under attack, as one attack on one goal sees it: every question is counted, recorded and judged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from accord.errors import AccordError
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.rollout import Sampling
from accord.types import Attempt, Conversation, Message, Outcome, Prompt, Score, Transcript

Judge = Callable[[Transcript], Awaitable[Score]]


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

    `attempts` holds every attempt so far, in order, also where the attack is then cut off.
    """

    completer: Completer
    judge: Judge
    goal: Prompt
    attack: str
    budget: Budget
    sampling: Sampling
    attacker: Completer
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def abilities(self) -> frozenset[Ability]:
        """What the model can do beside answering."""
        return self.completer.abilities

    @property
    def left(self) -> int:
        """How many queries are left."""
        return self.budget.queries - len(self.attempts)

    async def ask(self, sent: Conversation, prefill: str = "") -> Attempt:
        """Put a conversation to the model and have its answer judged; an error is an attempt with that outcome.

        Raises:
            BudgetSpentError: the budget is spent.
        """
        number, id = self._take_place(sent, prefill)
        completion = await self.completer.complete(Request(sent, self.sampling, id, prefill))
        return await self._settle(number, id, sent, prefill, completion)

    async def record(self, sent: Conversation, completion: Completion) -> Attempt:
        """Count and judge, as one query, an answer that was obtained otherwise than by `ask`; `sent` says what words cannot.

        Raises:
            BudgetSpentError: the budget is spent.
        """
        number, id = self._take_place(sent, "")
        return await self._settle(number, id, sent, "", completion)

    def _take_place(self, sent: Conversation, prefill: str) -> tuple[int, str]:
        """Take a place among the attempts before the model is asked: several questions may be in flight."""
        if self.left <= 0:
            raise BudgetSpentError(f"{self.attack}: {self.budget.queries} queries on goal '{self.goal.id}' are spent")
        number = len(self.attempts) + 1
        id = f"{self.attack}/{self.goal.id}/{number}"
        self.attempts.append(
            self._attempt(id, sent, prefill, Completion(""), Score(Outcome.UNSCORED, "", "in flight"), number)
        )
        return number, id

    async def _settle(self, number: int, id: str, sent: Conversation, prefill: str, completion: Completion) -> Attempt:
        if completion.error:
            score = Score(Outcome.ERROR, "", completion.error)
        else:
            said = self.goal.messages[-1].content
            transcript = Transcript(sent, prefill + completion.text, self.goal.kind, self.goal.clause, said)
            score = await self.judge(transcript)
        attempt = self._attempt(id, sent, prefill, completion, score, number)
        self.attempts[number - 1] = attempt
        return attempt

    async def write(self, messages: Conversation, max_new_tokens: int = 160, temperature: float = 0.8) -> str:
        """Have the attacker write; an empty text where it failed. Its words are no query to the model under attack."""
        sampling = Sampling(max_new_tokens, temperature, self.sampling.seed)
        key = f"{self.attack}/{self.goal.id}/write/{len(self.attempts)}/{_digest(messages)}"
        return (await self.attacker.complete(Request(messages, sampling, key))).text.strip()

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Return the log-probability of each answer under the model.

        Raises:
            ModelError: the model does not tell.
        """
        return await self.completer.logps(messages, answers)

    def _attempt(
        self, id: str, sent: Conversation, prefill: str, completion: Completion, score: Score, number: int
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
        )


def _digest(messages: Conversation) -> str:
    import hashlib

    return hashlib.sha256("\x1e".join(f"{m.role}\x1f{m.content}" for m in messages).encode()).hexdigest()[:12]


def user(text: str) -> Conversation:
    """Return a conversation of one user's turn."""
    return (Message("user", text),)
