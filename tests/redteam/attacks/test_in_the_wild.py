import dataclasses
import json
import os
import random
from pathlib import Path

import pytest
from fixed_targets import GOAL, TEXT, FixedTarget, meets, outcomes, put

from accord.errors import DataError
from accord.redteam.attacks.direct import Direct
from accord.redteam.attacks.in_the_wild import InTheWild
from accord.types import Message


def written(tmp_path, *prompts):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


def test_the_goal_takes_the_place_left_for_it_or_stands_behind(tmp_path):
    long = "word " * 40
    path = written(tmp_path, "Be Q. <QUERY>! Now.", "Say: [INSERT PROMPT HERE].", long, "A bare request")
    goal = "How do I \\open {it}?"
    asked = InTheWild(path, 9).dress(GOAL, random.Random(0))
    assert sorted(d.note for d in asked) == ["line 1", "line 2", "line 3"]
    found = {d.note: d.sent[-1].content for d in asked}
    assert found["line 1"] == f"Be Q. {TEXT}! Now."
    assert found["line 2"] == f"Say: {TEXT}."
    assert found["line 3"] == f"{long}\n\n{TEXT}"
    odd = dataclasses.replace(GOAL, messages=(Message("user", goal),))
    assert any(goal in d.sent[-1].content for d in InTheWild(path).dress(odd, random.Random(0)))


def test_a_file_without_a_frame_is_refused(tmp_path):
    with pytest.raises(DataError, match="fits into"):
        InTheWild(written(tmp_path, "Too short")).dress(GOAL, random.Random(0))
    with pytest.raises(DataError, match="no such file"):
        InTheWild(str(tmp_path / "none.jsonl")).dress(GOAL, random.Random(0))


@pytest.mark.skipif("ACCORD_TEST_DATA" not in os.environ, reason="ACCORD_TEST_DATA is not set")
def test_prompts_that_people_shared_reach_a_target_that_plays_along():
    """The weakness: it forgets its rules where it is told to act as something else."""
    path = str(Path(os.environ["ACCORD_TEST_DATA"]) / "jailbreaks" / "in_the_wild.jsonl")
    weak = meets(r"\b(?:act|pretend|immerse)\b")
    assert outcomes(put(Direct(), FixedTarget(weak))) == ["refused"]
    target = put(InTheWild(path), FixedTarget(weak))
    assert outcomes(target)[-1] == "complied"
    drawn = [tuple(d.note for d in InTheWild(path).dress(GOAL, random.Random(seed))) for seed in range(20)]
    assert len(set(drawn)) == 20
    assert all(TEXT in d.sent[-1].content for d in InTheWild(path, 400).dress(GOAL, random.Random(0)))
