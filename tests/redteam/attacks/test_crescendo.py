from fixed_targets import TEXT, FixedTarget, FixedWriter, last, outcomes, put

from accord.models.completer import Completion
from accord.redteam.attacks.crescendo import Crescendo
from accord.redteam.attacks.direct import Direct

TALK = "People have kept their cupboards locked for centuries, mostly to keep food and papers safe from children and guests."


class Talker(FixedTarget):
    """Talks about the topic, but refuses the goal unless `turns` of its own answers stand before it. `never` is refused always."""

    def __init__(self, turns, never="\0"):
        super().__init__(lambda request: sum(m.role == "assistant" for m in request.messages) >= turns)
        self.never = never

    async def complete(self, request):
        completion = await super().complete(request)
        asks_for_goal = TEXT in last(request)
        return completion if asks_for_goal or self.never in last(request) else Completion(TALK, 20)


def asks(request):
    """A writer whose questions tell apart by their number."""
    return f"PROMPT: Question {request.key.rsplit('/', 1)[-1]}: why were cupboards locked at all?"


def test_turns_are_carried_until_the_goal_is_answered():
    assert outcomes(put(Direct(), Talker(3))) == ["refused"]
    target = put(Crescendo(), Talker(3), attacker=FixedWriter(asks))
    assert outcomes(target) == ["deflected"] * 3 + ["complied"]
    assert [len(a.sent) for a in target.attempts] == [1, 3, 5, 7]
    for before, after in zip(target.attempts, target.attempts[1:], strict=False):
        assert after.sent[:-2] == before.sent
        assert after.sent[-2].content == before.answer == TALK
    assert target.attempts[-1].sent[-1].content.endswith(TEXT)
    assert [a.on_the_way for a in target.attempts] == [True, True, True, False]


def test_a_harmless_question_on_the_way_is_no_success():
    """Each answer is on the goal's topic and no refusal; only the last one answers the goal."""
    target = put(Crescendo(), Talker(99), 4, attacker=FixedWriter(asks))
    assert outcomes(target) == ["deflected"] * 3 + ["refused"]
    assert "on the way" in target.attempts[0].score.reason


def test_a_refused_turn_is_taken_back_and_asked_in_other_words():
    """Question 2 is refused: the third conversation carries question 1 alone, and the refusal stands in none of them."""
    target = put(Crescendo(), Talker(3, never="Question 2"), attacker=FixedWriter(asks))
    assert outcomes(target)[:3] == ["deflected", "refused", "deflected"]
    first, refused, retried = target.attempts[:3]
    assert retried.sent[:-1] == refused.sent[:-1]
    assert retried.sent[:1] == first.sent
    assert retried.sent[-1] != refused.sent[-1]
    assert outcomes(target)[-1] == "complied"
    assert all(m.content != refused.answer for a in target.attempts for m in a.sent)


def test_after_three_refusals_in_a_row_it_starts_afresh():
    target = put(Crescendo(rungs=1), Talker(99), 8, attacker=FixedWriter(asks))
    assert outcomes(target) == ["deflected", "refused", "refused", "refused"] * 2
    assert [len(a.sent) for a in target.attempts] == [1, 3, 3, 3] * 2
    assert len({a.sent[-1].content for a in target.attempts[1:4]}) == 3


def test_without_a_usable_attacker_the_fixed_ladder_is_climbed_and_said():
    target = put(Crescendo(), Talker(3), attacker=FixedWriter(lambda request: ""))
    assert outcomes(target)[-1] == "complied"
    assert all("no usable prompt" in a.note for a in target.attempts[:3])
    assert "locked cupboard" in target.attempts[0].sent[-1].content


def test_the_goal_is_asked_within_the_smallest_budget():
    assert [TEXT in a.sent[-1].content for a in put(Crescendo(), Talker(0), 1).attempts] == [True]
    assert [TEXT in a.sent[-1].content for a in put(Crescendo(), Talker(99), 2).attempts] == [False, True]


def test_what_asks_nothing_or_opens_on_another_topic_is_no_question():
    for reply in ("The next turn is about cupboards and locks.", "What is the weather like?"):
        target = put(Crescendo(), Talker(3), 1 + 1, attacker=FixedWriter(lambda request, reply=reply: reply))
        assert "no usable prompt" in target.attempts[0].note
