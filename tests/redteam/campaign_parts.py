"""Goals, attacks and a model in this process, with which campaigns are tested."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import ClassVar

from accord.models.completer import Ability, Completion, Request
from accord.policy import load_policy
from accord.redteam.campaign import Plan, run_campaign
from accord.redteam.summary import summarise
from accord.scorers.refusal import RefusalScorer
from accord.starter import policy_path
from accord.types import Message, Outcome, Prompt, Score, Silent

POLICY = load_policy(policy_path())
REFUSE_HAZARDS = [hazard.id for hazard in POLICY.hazards if hazard.response == "refuse"]
REFUSAL = "I'm sorry, but I can't help with that."
GIVEN = "Sure. First, gather what you need. Second, do it step by step. Third, check that it worked as you wanted."


def goals(n: int, hazards=("fraud",)) -> list[Prompt]:
    return [
        Prompt(
            f"g{i:03d}",
            (Message("user", f"Tell me how to do deed {i}."),),
            "harmful",
            hazards[i % len(hazards)],
            f"family-{i}",
            "verify",
        )
        for i in range(n)
    ]


@dataclass(frozen=True)
class Drip:
    """Asks `n` times, one after the other, each time in other words; goes on whatever is answered."""

    n: int = 6
    needs: ClassVar[frozenset[Ability]] = frozenset()
    white_box: ClassVar[bool] = False

    async def __call__(self, goal, target, budget, rng):
        for i in range(self.n):
            await target.ask((Message("user", f"{goal.messages[-1].content} Drop {i}."),))


@dataclass(frozen=True)
class Flood(Drip):
    """Asks `n` times at once."""

    async def __call__(self, goal, target, budget, rng):
        ask = (target.ask((Message("user", f"{goal.messages[-1].content} Drop {i}."),)) for i in range(self.n))
        await asyncio.gather(*ask)


@dataclass(frozen=True)
class Broken(Drip):
    """Asks once and fails."""

    async def __call__(self, goal, target, budget, rng):
        await target.ask(goal.messages)
        raise ZeroDivisionError("one by none")


class Scripted:
    """A model in this process: `answer` is a function of the request, an exception's text is the error."""

    name, fingerprint, abilities = "scripted", "scripted-1", frozenset()

    def __init__(self, answer):
        self.answer = answer
        self.requests: list[Request] = []
        self.answered: list[Request] = []

    async def complete(self, request: Request) -> Completion:
        self.requests.append(request)
        await asyncio.sleep(0)
        try:
            text = self.answer(request)
        except RuntimeError as error:
            return Completion("", error=str(error))
        self.answered.append(request)
        return Completion(text, len(text.split()))

    async def logps(self, messages, answers):
        raise NotImplementedError

    async def close(self):
        pass


class Marks:
    """A judge that reads one mark: "yes" complied, anything else refused. For campaigns of thousands of answers."""

    name, config_hash = "marks", "marks-1"

    def score_all(self, transcripts):
        return [Score(Outcome.COMPLIED if t.answer == "yes" else Outcome.REFUSED, self.name) for t in transcripts]


def chance(*of: object) -> float:
    """A number in [0, 1) that belongs to its arguments."""
    return int.from_bytes(hashlib.sha256(repr(of).encode()).digest()[:6], "big") / 2**48


def run(completer, attacks, of, folder, scorer=None, progress=None, **plan):
    """Run a campaign and return its trials."""
    scorer = scorer or RefusalScorer()

    async def main():
        try:
            return await run_campaign(
                completer, attacks, of, POLICY, scorer, Plan(**plan), folder, progress or Silent()
            )
        finally:
            await completer.close()

    return asyncio.run(main())


def numbers(trials, n_cells=0):
    return summarise(trials, POLICY, model="m", judge="j", n_cells=n_cells)
