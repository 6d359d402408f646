from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_leetspeak
from accord.redteam.attacks.leetspeak import Leetspeak


def reads(request):
    """A target whose filter knows the words of the goal, but which reads digits as letters."""
    return "cupboard" not in last(request) and TEXT.lower() in decode_leetspeak(last(request))


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(Leetspeak(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(Leetspeak(), FixedTarget(meets("cupboard")))) == ["refused"]
