import pytest
from fixed_targets import TEXT, FixedTarget, FixedWriter, last, meets, outcomes, put

from accord.errors import SettingsError
from accord.models.completer import Completion
from accord.redteam.attacks.tap import Tap

ASIDE = "What is the weather like today?"


def number(request):
    return int(request.key.rsplit("/", 1)[-1])


def wordings(request):
    """Every third branch is off topic; the others are numbered wordings of the goal."""
    return ASIDE if number(request) % 3 == 0 else f"PROMPT: {TEXT[:-1]}, wording {number(request)}?"


def test_branches_off_topic_are_cut_before_they_cost_a_query():
    """Three branches, of which one is off topic: two queries, although the target would gladly talk of the weather."""
    target = put(Tap(depth=1), FixedTarget(meets("weather")), attacker=FixedWriter(wordings))
    assert [a.sent[-1].content for a in target.attempts] == [f"{TEXT[:-1]}, wording {i}?" for i in (1, 2)]
    assert outcomes(target) == ["refused", "refused"]


def test_a_wording_is_asked_once():
    same = FixedWriter(lambda request: f"PROMPT: {TEXT[:-1]}, please?")
    asked = [a.sent[-1].content for a in put(Tap(depth=2), FixedTarget(), attacker=same).attempts]
    assert asked.count(f"{TEXT[:-1]}, please?") == 1
    assert len(set(asked)) == len(asked)


class Softening(FixedTarget):
    """Flatly refuses, but asks back (a deflection) on wording 2; what descends from that is answered."""

    async def complete(self, request):
        completion = await super().complete(request)
        return Completion("What would you like to know?") if "wording 2?" in last(request) else completion


def test_the_next_level_grows_from_the_best_leaf():
    """With width 1 only the leaf that was not refused is branched from: the writer sees no other prompt."""
    writer = FixedWriter(wordings)
    target = put(Tap(width=1, depth=2), Softening(), attacker=writer)
    assert outcomes(target)[:2] == ["refused", "deflected"]
    grown = [last(r) for r in writer.asked[3:]]
    assert len(grown) == 3
    assert all("wording 2?" in text for text in grown)


def test_the_width_bounds_a_level_and_the_budget_the_tree():
    writer = FixedWriter(lambda request: f"PROMPT: {TEXT[:-1]}, wording {number(request)}?")
    put(Tap(branching=3, width=2, depth=3), FixedTarget(), 99, attacker=writer)
    assert len(writer.asked) == 3 + 2 * 3 + 2 * 3
    assert len(put(Tap(), FixedTarget(), 12, attacker=FixedWriter(wordings)).attempts) == 12


def test_where_every_branch_is_cut_fixed_rewordings_take_their_place():
    target = put(Tap(), FixedTarget(meets("table of contents")), attacker=FixedWriter(lambda request: ASIDE))
    assert "complied" in outcomes(target)
    assert all("fixed rewording" in a.note for a in target.attempts)


def test_a_tree_that_cannot_grow_is_refused():
    with pytest.raises(SettingsError, match="branching is 0, width is -1"):
        Tap(branching=0, width=-1)
