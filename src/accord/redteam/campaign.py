"""Attacks × goals on one model, within a budget of questions: first a uniform share, then where a bandit expects successes.

The uniform share is spent in an order that was fixed before anything was seen, and it alone feeds the rates (`summary`). Where
the budget reaches for every attack on every goal, all of it is uniform. What is left goes to the bandit (`bandit`).

A trial is begun only where its questions fit what is left of the budget, and a trial that is begun is finished: one cut off by
the budget would look like a failure of the attack. How many questions an attack wants is learnt from its trials (`Costs`), so
that attacks of one question fill a budget exactly; it may be overspent by as much as an attack exceeds what it needed before.

Everything is written as it happens (`journal`); asking the same again in the same folder goes on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.errors import DataError, SettingsError
from accord.models.coalesce import Coalescer
from accord.models.completer import Completer, Completion, Request
from accord.models.sampling import Sampling
from accord.policy.schema import Policy
from accord.redteam.attack import Attack
from accord.redteam.bandit import Bandit, Cell, uniform_order
from accord.redteam.journal import Journal, JournalError
from accord.redteam.summary import Drawn, Trial, verdict
from accord.redteam.target import Budget, BudgetSpentError, Judge, Target
from accord.scorers.scorer import RAISED, Scorer, judge_failed
from accord.types import Attempt, Outcome, Progress, Prompt, Score, Transcript

AT_ONCE = 256
# The bandit learns only from trials that have ended, so at most this part of its questions is in flight, or 16 trials.
ADAPTIVE_PART, ADAPTIVE_AT_LEAST = 8, 16
JUDGE_ROWS = 256
WHITE_BOX_STEPS = Budget().steps
# Where this many questions were asked and every one ended in an error, the model is taken for unreachable.
UNREACHABLE_AFTER = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign may spend: questions in all, questions for each attack on each goal, and the uniform share of all.

    `white_box_steps` bounds the search of an attack that has the model's weights, on each goal; its steps are no questions.

    Raises:
        SettingsError: a number is out of range; all in one message.
    """

    budget: int = 2000
    queries: int = 12
    uniform_share: float = 0.5
    seed: int = 0
    max_new_tokens: int = 64
    temperature: float = 0.0
    white_box_steps: int = WHITE_BOX_STEPS

    def __post_init__(self) -> None:
        faults = [
            f"--{name} must be at least 1, not {value}"
            for name, value in (
                ("budget", self.budget),
                ("queries", self.queries),
                ("max-new-tokens", self.max_new_tokens),
                ("white-box-steps", self.white_box_steps),
            )
            if value < 1
        ]
        if not 0 < self.uniform_share <= 1:
            faults.append(f"--uniform-share must be above 0 and at most 1, not {self.uniform_share:g}")
        if faults:
            raise SettingsError("; ".join(faults))

    @property
    def sampling(self) -> Sampling:
        """How the model under attack is sampled."""
        return Sampling(self.max_new_tokens, self.temperature, self.seed)


async def run_campaign(
    completer: Completer,
    attacks: Mapping[str, Attack],
    goals: Sequence[Prompt],
    policy: Policy,
    scorer: Scorer,
    plan: Plan,
    folder: Path,
    progress: Progress,
    attacker: Completer | None = None,
) -> tuple[Trial, ...]:
    """Spend the plan's budget and return every trial, those of earlier calls in the same folder too.

    Raises:
        InputError: an attack's own settings are wrong, a goal cites no hazard of the policy, or the folder cannot be written.
    """
    for goal in goals:
        policy.hazard(goal.clause)
    judge = Coalescer(scorer.score_all, JUDGE_ROWS)
    try:
        with Journal(folder, goals) as journal:
            campaign = _Campaign(
                completer, attacker or completer, attacks, goals, policy, judge, scorer.name, plan, journal, progress
            )
            return await campaign.run()
    finally:
        judge.close()


def judge_was_down(trial: Trial) -> bool:
    """Whether some answer of a trial has no verdict because the judge failed."""
    return any(judge_failed(attempt.score) for attempt in trial.attempts)


class Recorder:
    """A model and its judge as one trial meets them: what was answered before is given again, what is new is written down.

    Everything else of the model, its weights for one, is reached through it.
    """

    def __init__(
        self, completer: Completer, journal: Journal, cell: tuple[str, str], on_answer: Callable[[Completion], None]
    ) -> None:
        self._completer, self._journal, self._cell, self._on_answer = completer, journal, cell, on_answer
        self.name, self.fingerprint, self.abilities = completer.name, completer.fingerprint, completer.abilities
        self.white_box = getattr(completer, "white_box", None)
        self.logps, self.close = completer.logps, completer.close
        self.n_open = 0

    async def complete(self, request: Request) -> Completion:
        """Return the recorded answer, or else the model's, which is recorded before anyone sees it."""
        completion = self._journal.past(self._cell).answer(request)
        if completion is None:
            self.n_open += 1
            try:
                completion = await self._completer.complete(request)
            finally:
                self.n_open -= 1
            self._journal.keep_answer(self._cell, request, completion)
        self._on_answer(completion)
        return completion

    def judging(self, judge: Judge, scorer: str) -> Judge:
        """Return the judge with a memory; where it breaks, the answer is unscored, and says why."""

        async def judged(transcript: Transcript) -> Score:
            known = self._journal.past(self._cell).verdict(transcript)
            if known is not None:
                return known
            self.n_open += 1
            try:
                score = await judge(transcript)
            except Exception as error:
                return Score(Outcome.UNSCORED, scorer, f"{RAISED}{type(error).__name__}: {error}")
            finally:
                self.n_open -= 1
            # Where the judge was down there is no verdict: who goes on with the campaign asks it again.
            if not judge_failed(score):
                self._journal.keep_verdict(self._cell, transcript, score)
            return score

        return judged

    async def quiet(self) -> None:
        """Wait for questions that an attack, cut off meanwhile, left in flight: they were asked and are to be counted."""
        while self.n_open:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)


class Costs:
    """How many questions a trial of each attack is expected to want.

    It is the most that any has asked, once one has failed, for that one took its attack's whole course, or once several have
    ended. Until then it is the cap.
    """

    _ENOUGH_TRIALS = 4

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._most: dict[str, int] = {}
        self._n_ended: Counter[str] = Counter()
        self._took_its_course: set[str] = set()

    def learn(self, attack: str, n_queries: int, succeeded: bool | None) -> None:
        """Take in what a trial asked."""
        self._n_ended[attack] += 1
        self._most[attack] = max(self._most.get(attack, 1), n_queries)
        if succeeded is False:
            self._took_its_course.add(attack)

    def wants(self, attack: str) -> int:
        """Return what to set aside for a trial."""
        known = attack in self._took_its_course or self._n_ended[attack] >= self._ENOUGH_TRIALS
        return self._most[attack] if known else self._cap

    def fits(self, attack: str, left: int, reserved: int) -> bool:
        """Whether a trial fits into `left` questions, of which running trials have reserved some.

        Where none runs, what was seen of the attack so far decides: a small budget is then spent one trial after the other.
        """
        return self.wants(attack) <= left - reserved or (not reserved and self._most.get(attack, self._cap) <= left)


class _Campaign:
    def __init__(
        self,
        completer: Completer,
        attacker: Completer,
        attacks: Mapping[str, Attack],
        goals: Sequence[Prompt],
        policy: Policy,
        judge: Judge,
        scorer: str,
        plan: Plan,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self.completer, self.attacker, self.attacks, self.policy = completer, attacker, attacks, policy
        self.judge, self.scorer, self.plan, self.journal, self.progress = judge, scorer, plan, journal, progress
        self.order = uniform_order(list(attacks), goals, plan.seed)
        self.queries = min(plan.queries, plan.budget)
        self.bandit = Bandit(self.order, self.queries)
        self.trials: list[Trial] = []
        self.spent: Counter[Drawn] = Counter()
        self.reserved = 0
        self.costs = Costs(self.queries)
        self.n_begun: Counter[Drawn] = Counter(journal.begun.values())
        self.n_left = Counter(attack for attack, _ in self.order[self.n_begun["uniform"] :])
        self.n_answered = self.n_failed = self.n_tokens = self.n_found = 0

    async def run(self) -> tuple[Trial, ...]:
        total = min(self.plan.budget, len(self.order) * self.queries)
        done = sum(len(trial.attempts) for trial in self.journal.ended.values())
        self.progress.start("red team", total, "questions", done)
        by_id = {(attack, goal.id): (attack, goal) for attack, goal in self.order}
        for attack, goal in (by_id[cell] for cell in self.journal.begun):
            self.bandit.take(attack, goal)
        for trial in self.journal.ended.values():
            for attempt in trial.attempts:
                self._count(Completion(attempt.answer, attempt.n_tokens, error=_error(attempt)))
            self._take_in(trial)
        cut_off = [(by_id[c], drawn) for c, drawn in self.journal.begun.items() if c not in self.journal.ended]
        await self._spend(lambda: cut_off.pop(0) if cut_off else None, AT_ONCE)
        if not self.n_begun["adaptive"]:
            await self._spend(self._next_uniform, AT_ONCE)
        free = self.plan.budget - self.spent.total()
        await self._spend(self._next_adaptive, min(AT_ONCE, max(ADAPTIVE_AT_LEAST, free // ADAPTIVE_PART)))
        self.progress.finish(self._note())
        return tuple(self.trials)

    async def _spend(self, draw: Callable[[], tuple[Cell, Drawn] | None], at_once: int) -> None:
        """Begin what `draw` gives as long as it gives something; wait for all that was begun."""
        running: dict[asyncio.Task[Trial], int] = {}
        try:
            while True:
                while len(running) < at_once and not self._unreachable and (drawn := draw()) is not None:
                    (attack, goal), why = drawn
                    running[asyncio.create_task(self._trial(attack, goal, why))] = self.costs.wants(attack)
                    self.reserved += self.costs.wants(attack)
                if not running:
                    return
                for task in (await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED))[0]:
                    self.reserved -= running.pop(task)
                    trial = task.result()
                    # Where its judge was down a trial has not ended: who goes on with the campaign has its answers judged.
                    if not judge_was_down(trial):
                        self.journal.end(trial)
                    self._take_in(trial)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _trial(self, attack: str, goal: Prompt, drawn: Drawn) -> Trial:
        cell = attack, goal.id
        if cell not in self.journal.begun:
            self.journal.begin(cell, drawn)
        began, fault = time.monotonic(), ""
        recorder = Recorder(self.completer, self.journal, cell, self._on_answer)
        attacker = Recorder(self.attacker, self.journal, cell, lambda _: None)
        judge = recorder.judging(self.judge, self.scorer)
        budget = Budget(self.queries, self.plan.white_box_steps)
        mode = self.policy.hazard(goal.clause).response
        target = Target(recorder, judge, goal, attack, budget, self.plan.sampling, attacker, mode)
        try:
            await self.attacks[attack](goal, target, budget, random.Random(f"{self.plan.seed}/{attack}/{goal.id}"))
        except BudgetSpentError:
            pass
        except (SettingsError, DataError, JournalError):
            raise
        except Exception as error:  # an attack's own fault is a fact about one trial, not the end of the campaign
            fault = f"the attack failed: {type(error).__name__}: {error}"
        await recorder.quiet()
        attempts = tuple(a for a in target.attempts if a.score.reason != "in flight")
        return Trial(attack, goal, drawn, attempts, fault, round(time.monotonic() - began, 3))

    def _take_in(self, trial: Trial) -> None:
        """Account for a trial that has ended."""
        self.trials.append(trial)
        n_queries = len(trial.attempts)
        self.spent[trial.drawn] += n_queries
        succeeded = verdict(trial, self.policy).succeeded
        self.costs.learn(trial.attack, n_queries, succeeded)
        self.n_found += succeeded is True
        self.bandit.learn(trial.attack, trial.goal, succeeded, n_queries)

    def _next_uniform(self) -> tuple[Cell, Drawn] | None:
        if self.n_begun["uniform"] == len(self.order):
            return None
        attack, goal = self.order[self.n_begun["uniform"]]
        free = self.plan.budget - self.spent.total() - self.reserved
        reaches_for_all = sum(n * self.costs.wants(a) for a, n in self.n_left.items()) <= free
        share = self.plan.budget if reaches_for_all else int(self.plan.uniform_share * self.plan.budget)
        # The order is kept: to skip a dear trial for a cheap one would favour the cheap. A first trial always fits.
        if not self.costs.fits(attack, max(share, self.queries) - self.spent["uniform"], self.reserved):
            return None
        self.n_begun["uniform"] += 1
        self.n_left[attack] -= 1
        self.bandit.take(attack, goal)
        return (attack, goal), "uniform"

    def _next_adaptive(self) -> tuple[Cell, Drawn] | None:
        left = self.plan.budget - self.spent.total()
        affordable = [attack for attack in self.attacks if self.costs.fits(attack, left, self.reserved)]
        rng = random.Random(f"{self.plan.seed}/adaptive/{self.n_begun['adaptive']}")
        cell = self.bandit.choose(affordable, rng)
        if cell is None:
            return None
        self.n_begun["adaptive"] += 1
        self.bandit.take(*cell)
        return cell, "adaptive"

    @property
    def _unreachable(self) -> bool:
        return not self.n_answered and self.n_failed >= UNREACHABLE_AFTER

    def _on_answer(self, completion: Completion) -> None:
        self._count(completion)
        self.progress.advance(1, self._note())

    def _count(self, completion: Completion) -> None:
        self.n_tokens += completion.n_tokens
        self.n_failed += bool(completion.error)
        self.n_answered += not completion.error

    def _note(self) -> str:
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        return f"{self.n_found} found, {self.n_tokens} tokens{failed}"


def _error(attempt: Attempt) -> str:
    return attempt.score.reason if attempt.score.outcome is Outcome.ERROR else ""
