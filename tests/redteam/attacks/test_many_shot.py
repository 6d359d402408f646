import random

import pytest
from fixed_targets import GOAL, TEXT, FixedTarget, last, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.many_shot import ManyShot


def test_a_target_that_follows_the_pattern_of_many_answers_gives_one_more():
    """The weakness: after ten questions that were answered, it answers the next one."""

    def weak(request):
        return sum(m.role == "assistant" for m in request.messages) >= 10

    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    assert outcomes(put(ManyShot(), FixedTarget(weak))) == ["complied"]
    assert outcomes(put(ManyShot(shots=9), FixedTarget(weak))) == ["refused", "refused"]


def test_within_one_message_the_dialogue_is_the_same():
    target = put(ManyShot(), FixedTarget(lambda request: last(request).count("\nAssistant: ") == 16))
    assert outcomes(target) == ["refused", "complied"]
    assert target.attempts[1].sent[-1].content.endswith(f"Human: {TEXT}\nAssistant:")


@pytest.mark.parametrize("shots", [0, 1, 16, 40])
def test_as_many_shots_as_asked_for(shots):
    as_turns, _ = ManyShot(shots).dress(GOAL, random.Random(0))
    assert sum(m.role == "assistant" for m in as_turns.sent) == shots
    assert [m.role for m in as_turns.sent] == ["user", "assistant"] * shots + ["user"]
    assert as_turns.sent[-1].content == TEXT
