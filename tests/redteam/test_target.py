import asyncio
from dataclasses import replace

import pytest
from fixed_targets import ANSWER, GOAL, EmptyTarget, FixedTarget, FixedWriter, judge

from accord.data.records import attempt_from_row, to_row
from accord.models.sampling import Sampling
from accord.redteam.target import Budget, BudgetSpentError, Target, in_place, user
from accord.types import Message, Outcome, Score


def target_of(completer, queries=12, attacker=None, mode="refuse"):
    return Target(completer, judge, GOAL, "by-hand", Budget(queries), Sampling(), attacker or completer, mode)


def test_an_attempt_keeps_what_was_sent_and_comes_back_from_disk():
    target = target_of(FixedTarget(lambda request: True))
    attempt = asyncio.run(target.ask(user("Open it"), "1.", "by hand"))
    assert (attempt.sent, attempt.prefill, attempt.note) == (user("Open it"), "1.", "by hand")
    assert attempt.prompt == GOAL
    assert target.succeeded(attempt)
    assert attempt_from_row(to_row(attempt)) == attempt


def test_questions_in_flight_have_taken_their_place():
    """Three at once with two left: the third is refused although no answer has come yet."""

    async def main():
        target = target_of(FixedTarget(), 2)
        found = await asyncio.gather(*(target.ask(user(text)) for text in "abc"), return_exceptions=True)
        return target, found

    target, found = asyncio.run(main())
    assert isinstance(found[2], BudgetSpentError)
    assert [a.sent for a in target.attempts] == [user("a"), user("b")]
    assert [a.queries for a in target.attempts] == [1, 2]


def test_a_reader_stands_between_the_answer_and_the_judge():
    async def translated(answer):
        return ANSWER

    async def decided(answer):
        return Score(Outcome.DEFLECTED, "reader", "told only of itself")

    target = target_of(FixedTarget())
    read = asyncio.run(target.ask(user("x"), note="in French", read=translated))
    assert (read.score.outcome, read.note) == (Outcome.COMPLIED, f"in French; judged as: {ANSWER}")
    assert read.answer != ANSWER
    assert asyncio.run(target.ask(user("x"), read=decided)).score.scorer == "reader"


@pytest.mark.parametrize("prefill", ["", "Sure, here it is. First, take the card and slide it behind the latch."])
def test_an_empty_answer_is_empty_whatever_was_put_in_its_mouth(prefill):
    assert asyncio.run(target_of(EmptyTarget()).ask(GOAL.messages, prefill)).score.outcome is Outcome.EMPTY


def test_the_same_order_twice_is_drawn_twice():
    writer = FixedWriter(lambda request: request.key)

    async def main():
        target = target_of(FixedTarget(), attacker=writer)
        return await asyncio.gather(target.write(user("Write")), target.write(user("Write")))

    first, second = asyncio.run(main())
    assert first != second


def test_what_stands_before_the_goal_is_kept():
    system = Message("system", "Be brief.")
    goal = replace(GOAL, messages=(system, *GOAL.messages))
    assert in_place(goal, "other words") == (system, Message("user", "other words"))
