from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_rot13
from accord.redteam.attacks.rot13 import Rot13


def reads(request):
    """A target whose filter knows the words of the goal, but which reads ROT13."""
    return "cupboard" not in last(request) and TEXT in decode_rot13(last(request))


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(Rot13(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(Rot13(), FixedTarget(meets("cupboard")))) == ["refused"]
