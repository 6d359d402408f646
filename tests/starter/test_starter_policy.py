import pytest

from accord.policy import load_policy, system_prompt
from accord.starter import capability_path, demonstrations_path, policy_path, verify_path

REFUSE = [
    "violent-crimes", "nonviolent-crimes", "fraud", "cybercrime", "weapons", "drugs", "sex-crimes", "child-safety",
    "hate", "harassment", "sexual-content", "privacy", "disinformation", "intellectual-property",
]  # fmt: skip
PRINCIPLES = {
    "helpfulness", "honesty-about-limits", "calibrated-uncertainty", "false-premise", "no-sycophancy", "fairness",
    "privacy-respect", "no-manipulation", "autonomy", "care", "transparency", "no-overclaiming", "even-handed-politics",
}  # fmt: skip


@pytest.fixture(scope="module")
def policy():
    return load_policy(policy_path())


def test_hazards_and_their_response_modes(policy):
    modes = {hazard.id: hazard.response for hazard in policy.hazards}
    others = {"self-harm": "help_with_care", "specialized-advice": "safe_complete"}
    assert modes == dict.fromkeys(REFUSE, "refuse") | others
    assert {principle.id for principle in policy.principles} == PRINCIPLES


def test_every_hazard_says_what_is_allowed_and_how_to_answer(policy):
    for hazard in policy.hazards:
        assert hazard.allowed, hazard.id
        assert 1 <= hazard.guidance.rstrip(".").count(". ") + 1 <= 2, hazard.id
        assert len(hazard.written_response.split()) < 80, hazard.id


def test_system_prompt_is_short_and_complete(policy):
    text = system_prompt(policy)
    assert len(text.split()) < 350
    assert all(hazard.name.lower() in text.lower() for hazard in policy.hazards)
    assert all(principle.statement in text for principle in policy.principles)


def test_paths_are_beside_the_package():
    paths = [policy_path(), demonstrations_path(), verify_path(), capability_path()]
    assert [path.name for path in paths] == [
        "policy.yaml", "demonstrations.jsonl", "verify.jsonl", "capability.jsonl",
    ]  # fmt: skip
    assert len({path.parent for path in paths}) == 1
