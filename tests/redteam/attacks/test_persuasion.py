from fixed_targets import TEXT, FixedTarget, meets, outcomes, put

from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.persuasion import Persuasion


def test_a_target_that_trusts_authority_is_persuaded_by_that_principle_alone():
    weak = meets("national institutes")
    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(Persuasion(), FixedTarget(weak))
    assert outcomes(target)[-1] == "complied"
    assert target.attempts[-1].note == "authority endorsement"


def test_each_principle_is_tried_once_in_an_order_drawn_by_the_seed():
    notes = [[a.note for a in put(Persuasion(), FixedTarget(), seed=seed).attempts] for seed in range(4)]
    assert all(len(set(found)) == len(found) == 6 for found in notes)
    assert len({tuple(found) for found in notes}) > 1
    assert all(a.sent[-1].content.endswith(TEXT) for a in put(Persuasion(), FixedTarget()).attempts)
