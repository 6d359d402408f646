from fixed_targets import TEXT, FixedTarget, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.prefix_injection import PrefixInjection


def test_a_target_that_begins_as_ordered_goes_on_as_begun():
    """The weakness: it begins with the words that it is given, and then stays consistent."""
    weak = meets("begin your answer with exactly these words")
    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(PrefixInjection(), FixedTarget(weak))
    assert outcomes(target) == ["complied"]
    assert all(TEXT in a.sent[-1].content for a in target.attempts)
