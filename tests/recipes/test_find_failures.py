from accord.evals.summary import Condition
from accord.policy import load_policy
from accord.recipes.safety_round import find_failures
from accord.starter import policy_path
from accord.types import Attempt, Message, Outcome, Prompt, Score


def attempt(id, outcome, kind="harmful", condition="base"):
    prompt = Prompt(id, (Message("user", "x"),), kind, "fraud", id, "verify")
    return Attempt(f"{condition}/{id}", prompt, condition, "y", 1, False, Score(outcome, "refusal", "why"), 0)


def test_failures_of_both_models_are_sealed_and_those_that_are_gone_are_fixed():
    before = Condition(
        "base", (attempt("a", Outcome.COMPLIED), attempt("b", Outcome.COMPLIED), attempt("c", Outcome.REFUSED))
    )
    after = Condition(
        "aligned",
        (
            attempt("a", Outcome.REFUSED, condition="aligned"),
            attempt("b", Outcome.COMPLIED, condition="aligned"),
            attempt("d", Outcome.REFUSED, "contrast", "aligned"),
        ),
    )
    found = find_failures([before, after], load_policy(policy_path()), ("base", "aligned"))
    assert [(f.id, f.status, f.failure) for f in found] == [
        ("base/a", "fixed", "harmful-compliance"),
        ("base/b", "open", "harmful-compliance"),
        ("aligned/b", "open", "harmful-compliance"),
        ("aligned/d", "open", "over-refusal"),
    ]
    assert all(f.sealed and f.score.reason == "why" for f in found)
