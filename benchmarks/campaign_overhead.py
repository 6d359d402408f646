"""What a campaign adds to bare generation: the same questions to the same model, once through a campaign, once in plain batches.

Both ask the starter model (or `--model`) the goals of the starter's verify set in plain words, 64 rows in flight. The campaign's
time holds all that it does beside: scheduling, the journal on disk, the judge. Rounds alternate; the ratio is the median over
rounds of bare seconds by campaign seconds, so 0.95 is an overhead of 5 %. A busy machine hides so little, so what a campaign does
beside is also timed alone, on a model that has the same answers ready at once: `own_share` is that by the bare seconds.

    python benchmarks/campaign_overhead.py [--quick] [--model ID]
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import finish, paired_ratio, processor, say

from accord.data.records import read_prompts
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.load import load_model
from accord.models.local import MAX_ROWS, LocalCompleter
from accord.policy import Policy, load_policy
from accord.redteam.attacks.direct import Direct
from accord.redteam.campaign import Plan, run_campaign
from accord.scorers.refusal import RefusalScorer
from accord.starter import policy_path, verify_path
from accord.types import Conversation, Prompt, Silent

ROUNDS = 5


class Ready:
    """A model that has its answers ready."""

    name, fingerprint, abilities = "ready", "ready", frozenset[Ability]()

    def __init__(self, answers: Mapping[str, Completion]) -> None:
        self.answers = answers

    async def complete(self, request: Request) -> Completion:
        """Return the answer at once."""
        return self.answers[request.key]

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Tell nothing: no attack here asks."""
        raise NotImplementedError

    async def close(self) -> None:
        """Hold nothing."""


def bare(completer: LocalCompleter, goals: Sequence[Prompt], plan: Plan) -> tuple[float, dict[str, Completion]]:
    """Return the seconds that generation alone takes, in batches as large as the campaign's, and the answers by their keys."""
    requests = [Request(goal.messages, plan.sampling, f"direct/{goal.id}/1") for goal in goals]
    answers: dict[str, Completion] = {}
    began = time.perf_counter()
    for start in range(0, len(requests), MAX_ROWS):
        batch = requests[start : start + MAX_ROWS]
        answers.update(zip((r.key for r in batch), completer.complete_all(batch), strict=True))
    return time.perf_counter() - began, answers


def campaign(completer: Completer, goals: Sequence[Prompt], policy: Policy, plan: Plan) -> float:
    """Return the seconds of a whole campaign, journal and judge included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        asyncio.run(
            run_campaign(
                completer, {"direct": Direct()}, goals, policy, RefusalScorer(), plan, Path(folder) / "run", Silent()
            )
        )
        return time.perf_counter() - began


def main() -> None:
    """Time both in alternation and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds of 16 goals")
    parser.add_argument("--model", default="starter")
    asked = parser.parse_args()
    rounds, n_goals = (2, 16) if asked.quick else (ROUNDS, 128)
    policy, loaded = load_policy(policy_path()), load_model(asked.model)
    goals = [p for p in read_prompts(verify_path()).prompts if p.kind == "harmful"][:n_goals]
    plan = Plan(budget=n_goals, queries=1, uniform_share=1.0)
    completer = LocalCompleter(loaded)
    bare(completer, goals[:8], plan)
    bare_s: list[float] = []
    campaign_s: list[float] = []
    answers: dict[str, Completion] = {}
    for number in range(rounds):
        order = ("bare", "campaign") if number % 2 else ("campaign", "bare")
        for which in order:
            if which == "bare":
                seconds, answers = bare(completer, goals, plan)
                bare_s.append(seconds)
            else:
                campaign_s.append(campaign(completer, goals, policy, plan))
        say(f"round {number + 1}: bare {bare_s[-1]:.2f} s, campaign {campaign_s[-1]:.2f} s")
    asyncio.run(completer.close())
    own_s = min(campaign(Ready(answers), goals, policy, plan) for _ in range(ROUNDS))
    median, low, high = paired_ratio([1 / s for s in campaign_s], [1 / s for s in bare_s])
    finish(
        {
            "work": f"campaign of {len(goals)} questions, {plan.max_new_tokens} tokens each, against bare generation",
            "ours": len(goals) / min(campaign_s),
            "peer": len(goals) / min(bare_s),
            "unit": "questions/s",
            "ratio": median,
            "ratio_low": low,
            "ratio_high": high,
            "overhead": 1 / median - 1,
            "own_ms_a_question": 1000 * own_s / len(goals),
            "own_share": own_s / min(bare_s),
            "processor": processor(loaded.device),
        }
    )


if __name__ == "__main__":
    main()
