from fixed_targets import TEXT, FixedTarget, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.template import Template


def test_a_target_that_takes_a_test_mode_for_real_answers_in_the_second_frame():
    """The weakness: it believes what a notice in the user's turn says of its mode. The film scene comes first."""
    weak = meets("mode is on")
    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(Template(), FixedTarget(weak))
    assert outcomes(target) == ["refused", "complied"]
    assert all(TEXT in a.sent[-1].content for a in target.attempts)
