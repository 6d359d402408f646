from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.confusables import Confusables
from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_confusables


def reads(request):
    """A target whose filter knows the words of the goal, but which reads letters by their looks."""
    return "cupboard" not in last(request) and decode_confusables(last(request)) == TEXT


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(Confusables(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(Confusables(), FixedTarget(meets("cupboard")))) == ["refused"]
