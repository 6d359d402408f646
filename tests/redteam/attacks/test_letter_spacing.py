from fixed_targets import TEXT, FixedTarget, last, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.encodings import decode_letter_spacing
from accord.redteam.attacks.letter_spacing import LetterSpacing


def reads(request):
    """A target whose filter knows the words of the goal, but which reads letters that stand apart."""
    return "cupboard" not in last(request) and decode_letter_spacing(last(request).split("\n\n")[1]) == TEXT


def test_a_filter_for_words_does_not_see_it_and_it_decodes_back():
    assert outcomes(put(Direct(), FixedTarget(reads))) == ["refused"]
    target = put(LetterSpacing(), FixedTarget(reads))
    assert outcomes(target) == ["complied"]
    assert outcomes(put(LetterSpacing(), FixedTarget(meets("cupboard")))) == ["refused"]
