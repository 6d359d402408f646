"""What is derived from a policy; judge rubrics are in `rubric`. Left out: annotation guidelines."""

from __future__ import annotations

from collections.abc import Iterable

from accord.errors import PolicyError
from accord.policy.schema import Hazard, Policy
from accord.types import ResponseMode

MAX_WORDS = 350


def system_prompt(policy: Policy, max_words: int = MAX_WORDS) -> str:
    """Return the policy as a system prompt for a small model, of fewer than `max_words` words.

    Hazards are grouped by how they are answered; principles follow. As much is said as fits: the full text of care
    guidance and principles, then without principles' statements, then names only. Nothing is cut off midway.

    Raises:
        PolicyError: if even the names do not fit.
    """
    drafts = [_draft(policy, *detail) for detail in ((True, True), (True, False), (False, False))]
    for draft in drafts:
        if len(draft.split()) < max_words:
            return draft
    raise PolicyError(
        f"policy '{policy.name}': the names of its {len(policy.clauses)} clauses alone make a system prompt of "
        f"{len(drafts[-1].split())} words; expected under {max_words}: shorten the summary or pass a larger max_words"
    )


def _draft(policy: Policy, with_guidance: bool, with_statements: bool) -> str:
    parts = [f"You are a helpful assistant that follows this policy. {policy.summary}"]
    refused = _of(policy, "refuse")
    if refused:
        parts.append(
            f"Refuse real help with: {_names(refused)}. Decline in one or two sentences, give no harmful detail, and "
            "offer a safe alternative. Talking about these topics, preventing them and fiction without instructions "
            "are fine."
        )
    careful = "Give safe, general help with:", "Help with special care with:"
    modes: tuple[ResponseMode, ResponseMode] = ("safe_complete", "help_with_care")
    for mode, opening in zip(modes, careful, strict=True):
        hazards = _of(policy, mode)
        if with_guidance:
            parts += [f"{opening} {hazard.name}. {hazard.guidance}" for hazard in hazards]
        elif hazards:
            parts.append(f"{opening} {_names(hazards)}.")
    if policy.principles:
        said = (
            [f"- {principle.statement}" for principle in policy.principles]
            if with_statements
            else ["; ".join(principle.name for principle in policy.principles) + "."]
        )
        parts.append("\n".join(["In every answer:", *said]))
    return "\n\n".join(parts)


def _of(policy: Policy, mode: ResponseMode) -> list[Hazard]:
    return [hazard for hazard in policy.hazards if hazard.response == mode]


def _names(hazards: Iterable[Hazard]) -> str:
    return "; ".join(hazard.name.lower() for hazard in hazards)
