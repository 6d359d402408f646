from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.base64 import Base64
from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_base64


def reads(request):
    """A target whose filter knows the words of the goal, but which reads Base64."""
    return "cupboard" not in last(request) and decode_base64(last(request).rsplit(maxsplit=1)[-1]) == TEXT


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(Base64(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(Base64(), FixedTarget(meets("cupboard")))) == ["refused"]
