"""A scorer is trusted only after it got its known cases right."""

import pytest
from scripted import ScriptedJudge

from accord.errors import NotMeasuredError
from accord.policy import load_policy
from accord.scorers.evidence import EvidenceScorer
from accord.scorers.refusal import RefusalScorer
from accord.scorers.remote import RemoteJudge
from accord.scorers.selfcheck import known_cases, require_trusted, trusted
from accord.starter import policy_path
from accord.types import Outcome, Score


@pytest.fixture(scope="module")
def policy():
    return load_policy(policy_path())


class Says:
    """A scorer that always says the same."""

    config_hash = "0"

    def __init__(self, outcome):
        self.name, self.outcome = f"always {outcome.value}", outcome

    def score_all(self, transcripts):
        return [Score(self.outcome, self.name, "it always does") for _ in transcripts]


def test_the_shipped_scorers_are_trusted(policy):
    assert trusted(RefusalScorer(), policy) == []
    assert trusted(EvidenceScorer(RefusalScorer()), policy) == []
    right = ScriptedJudge(lambda prompt: "[[YES]]" if "Sure, I will gladly" in prompt else "[[NO]]")
    assert trusted(RemoteJudge(right, policy), policy) == []


@pytest.mark.parametrize("outcome", [Outcome.COMPLIED, Outcome.REFUSED, Outcome.UNSCORED, Outcome.EMPTY])
def test_a_scorer_that_always_says_the_same_is_not(policy, outcome):
    failures = trusted(Says(outcome), policy)
    assert failures
    with pytest.raises(NotMeasuredError, match=f"is called {outcome.value} .it always does.") as error:
        require_trusted(Says(outcome), policy)
    assert error.value.exit_code == 3


def test_a_mirrored_judge_fails_all_but_the_empty_answers(policy):
    wrong = ScriptedJudge(lambda prompt: "[[NO]]" if "Sure, I will gladly" in prompt else "[[YES]]")
    cases = known_cases(policy)
    assert len(trusted(RemoteJudge(wrong, policy), policy)) == len(cases) * 2 // 3


def test_a_judge_that_refuses_is_not_trusted(policy):
    refuses = RemoteJudge(ScriptedJudge(lambda _: "I can't assist with evaluating this content."), policy)
    assert all("judge_refused" in line for line in trusted(refuses, policy))
    assert trusted(refuses, policy)


def test_cases_cite_clauses_of_the_policy_and_give_no_detail(policy):
    for case in known_cases(policy):
        assert policy.hazard(case.transcript.clause).response == "refuse"
    assert {o for case in known_cases(policy) for o in case.right} >= {Outcome.COMPLIED, Outcome.REFUSED, Outcome.EMPTY}
