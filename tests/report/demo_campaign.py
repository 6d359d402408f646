"""A made-up campaign of realistic size. TEST DATA: nothing here was measured, and no answer came from a model."""

import random
import sys
from pathlib import Path

from accord.policy import load_policy
from accord.redteam.summary import Trial, summarise
from accord.report.redteam_page import CampaignEvidence
from accord.starter import policy_path
from accord.types import Attempt, Message, Outcome, Prompt, Score

POLICY = load_policy(policy_path())
ATTACKS = {  # name: chance of success a question, most questions
    "direct": (0.3, 1),
    "base64": (0.05, 1),
    "past_tense": (0.35, 1),
    "refusal_suppression": (0.3, 1),
    "persona": (0.2, 3),
    "best_of_n": (0.12, 12),
    "crescendo": (0.1, 8),
    "pair": (0.08, 12),
    "in_the_wild": (0.15, 6),
    "zero_width": (0.0, 1),
    "soft_prompt": (0.8, 1),
}


def goals():
    """Forty goals under eight hazards, some of each split."""
    made = []
    for i in range(40):
        hazard = POLICY.hazards[i % 8]
        text = f"(test data) A harmful request about {hazard.name.lower()}, number {i}."
        split = "verify" if i % 3 else "discover"
        made.append(Prompt(f"g{i:02d}", (Message("user", text),), "harmful", hazard.id, f"fam-{i // 2}", split))
    return made


def trial(attack, goal, drawn, rng, unreadable=0.03):
    """Ask until a success or the most questions."""
    chance, most = ATTACKS[attack]
    attempts = []
    sent = (Message("user", f"(test data) dressed by {attack}"), *goal.messages) if attack != "direct" else ()
    for number in range(1, most + 1):
        outcome, reason = Outcome.REFUSED, ""
        if rng.random() < unreadable:
            outcome, reason = rng.choice(
                [(Outcome.ERROR, "HTTP 500"), (Outcome.EMPTY, ""), (Outcome.UNSCORED, "repeats")]
            )
        elif rng.random() < chance:
            outcome = rng.choice([Outcome.COMPLIED, Outcome.COMPLIED, Outcome.PARTIAL])
        answer = f"[Test data: what the model said as {outcome.value}.]"
        id = f"{attack}/{goal.id}/{number}"
        score = Score(outcome, "test", reason)
        attempts.append(
            Attempt(id, goal, "m", answer, 30, False, score, 0, attack, sent, "Sure," * (attack == "persona"), number)
        )
        if outcome in (Outcome.COMPLIED, Outcome.PARTIAL):
            break
    return Trial(attack, goal, drawn, tuple(attempts), "", 1.0)


def demo(unreadable=0.03, attacks=tuple(ATTACKS), clusters=None, known=None) -> CampaignEvidence:
    """The whole record: three quarters of all cells drawn uniformly, some of the rest adaptively."""
    rng = random.Random(3)
    trials = []
    for goal in goals():
        for attack in attacks:
            draw = rng.random()
            # One attack was never tried on one hazard.
            if draw < 0.75 and not (attack == "pair" and goal.clause == POLICY.hazards[2].id):
                trials.append(trial(attack, goal, "uniform", rng, unreadable))
            elif draw < 0.8:
                trials.append(trial(attack, goal, "adaptive", rng, unreadable))
    return evidence(trials, clusters or {}, known)


def evidence(trials, clusters=None, known=None) -> CampaignEvidence:
    """A record of these trials."""
    summary = summarise(trials, POLICY, model="starter", judge="refusal (a1b2c3d4)", n_cells=440, known=known)
    return CampaignEvidence(
        title="Red team of starter (test data)",
        run_id="redteam-demo",
        created="2026-01-15T10:24:00+00:00",
        policy=POLICY,
        summary=summary,
        trials=tuple(trials),
        clusters=clusters or {},
        white_box=frozenset({"soft_prompt"}),
        settings={"budget": "2000", "queries": "12", "seed": "0"},
        machine={"processor": "AMD EPYC (Zen 4), test data", "cores": "2"},
        wall_seconds=1710.0,
    )


if __name__ == "__main__":  # python tests/report/demo_campaign.py FILE [UNREADABLE]: to look at the page
    from accord.report.redteam_page import render_redteam

    Path(sys.argv[1]).write_text(
        render_redteam(demo(float(sys.argv[2]) if len(sys.argv) > 2 else 0.03)), encoding="utf-8"
    )
