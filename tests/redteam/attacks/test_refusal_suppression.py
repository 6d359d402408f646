from fixed_targets import TEXT, FixedTarget, last, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.refusal_suppression import RefusalSuppression


def test_a_target_that_may_not_say_that_it_cannot_answers():
    """The weakness: rules on wording outrank its judgement."""

    def weak(request):
        return all(w in last(request) for w in ("Do not", '"cannot"', "warnings"))

    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(RefusalSuppression(), FixedTarget(weak))
    assert outcomes(target) == ["complied"]
    assert all(TEXT in a.sent[-1].content for a in target.attempts)
