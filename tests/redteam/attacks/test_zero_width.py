from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_zero_width
from accord.redteam.attacks.zero_width import ZeroWidth


def reads(request):
    """A target whose filter knows the words of the goal, but which reads past what is invisible."""
    return "cupboard" not in last(request) and decode_zero_width(last(request)) == TEXT


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(ZeroWidth(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(ZeroWidth(), FixedTarget(meets("cupboard")))) == ["refused"]
