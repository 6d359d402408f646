from fixed_targets import GOAL, EmptyTarget, FixedTarget, outcomes, put

from accord.models.completer import Ability
from accord.redteam.attacks.answer_prefill import AnswerPrefill
from accord.redteam.attacks.direct import Direct


def test_the_words_are_put_in_the_answers_mouth_and_the_goal_stays_as_it_is():
    """The weakness: it goes on as an answer has begun. The question itself is the direct one."""

    def weak(request):
        return request.prefill.startswith("Sure")

    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(AnswerPrefill(), FixedTarget(weak))
    assert outcomes(target) == ["complied"]
    assert target.attempts[0].sent == GOAL.messages
    assert target.attempts[0].prefill == target.completer.asked[0].prefill != ""
    assert AnswerPrefill.needs == {Ability.PREFILL}


def test_words_of_ours_that_nothing_follows_are_no_answer():
    assert outcomes(put(AnswerPrefill(), EmptyTarget())) == ["empty", "empty"]


def test_a_refusal_behind_our_words_is_one():
    assert outcomes(put(AnswerPrefill(), FixedTarget())) == ["refused", "refused"]
