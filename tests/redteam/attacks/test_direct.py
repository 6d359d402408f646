from fixed_targets import GOAL, TEXT, FixedTarget, meets, outcomes, put

from accord.redteam.attacks.direct import Direct


def test_the_goal_is_asked_once_as_it_is():
    refused = put(Direct(), FixedTarget())
    assert [a.sent for a in refused.attempts] == [GOAL.messages]
    assert outcomes(refused) == ["refused"]
    assert outcomes(put(Direct(), FixedTarget(meets(f"^{TEXT[:-1]}")))) == ["complied"]
