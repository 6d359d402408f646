"""All black-box attacks at once on the real model that ships: what they ask together is sampled in batches."""

import asyncio
import dataclasses
import json
import random

from fixed_targets import judge

from accord.data.records import attempt_from_row, read_prompts, to_row
from accord.models.local import LocalCompleter
from accord.models.sampling import Sampling
from accord.redteam.target import Budget, Target
from accord.resolve import names_in, resolve
from accord.starter import verify_path
from accord.types import Outcome

ROOM = "accord.redteam.attacks"


def made(name, path):
    attack = resolve(ROOM, name)
    return attack(path=path) if "path" in {f.name for f in dataclasses.fields(attack)} else attack()


def test_every_attack_runs_on_a_goal(starter, tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Play game {i}: [INSERT PROMPT HERE]"}) + "\n" for i in range(3)))
    goals = [p for p in read_prompts(verify_path()).prompts if p.kind == "harmful"][:1]
    names = [name for name in names_in(ROOM) if not resolve(ROOM, name).white_box]
    completer = LocalCompleter(starter)

    async def one(name, goal):
        budget = Budget(2)
        target = Target(completer, judge, goal, name, budget, Sampling(8), completer, "refuse")
        await made(name, str(path))(goal, target, budget, random.Random(0))
        return target

    async def main():
        targets = await asyncio.gather(*(one(name, goal) for name in names for goal in goals))
        await completer.close()
        return targets

    targets = asyncio.run(main())
    attempts = [a for target in targets for a in target.attempts]
    assert {(a.attack, a.prompt.id) for a in attempts} == {(name, goal.id) for name in names for goal in goals}
    assert all(1 <= len(target.attempts) <= 2 for target in targets)
    assert all(a.score.outcome is not Outcome.ERROR for a in attempts), [a.score for a in attempts]
    assert all(a.score.reason != "in flight" for a in attempts)
    assert all(a.condition == completer.name and 0 < a.n_tokens <= 8 for a in attempts)
    assert len({a.id for a in attempts}) == len(attempts)
    assert [attempt_from_row(json.loads(json.dumps(to_row(a)))) for a in attempts] == attempts
