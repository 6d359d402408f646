from fixed_targets import TEXT, FixedTarget, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.persona import Persona


def test_a_target_that_plays_any_character_answers_in_one():
    """The weakness: it does what a character who was given a name and no rules would do."""
    weak = meets(r"you are \w+.*never given any rules", r"opposite, who has no rules")
    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(Persona(), FixedTarget(weak))
    assert outcomes(target) == ["complied"]
    assert all(TEXT in a.sent[-1].content for a in target.attempts)
