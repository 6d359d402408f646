"""For each finding an answer to learn, and beside it benign prompts in the same dress that must still be answered.

A harmful request's answer is sampled under the clause's own guidance as system prompt and judged; where no sample is acceptable it
is the clause's written response. A wrongly refused request's answer is a sample that answers. Contrast prompts of the same clause
are dressed as the finding was and answered by the base model, so that the dress alone is no reason to decline.

A prefill is not taught: the lesson begins where the answer does, and the failure that it is held against begins with the prefill.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from accord.data.findings import FindingStore
from accord.data.messages import show, with_system
from accord.errors import DataError
from accord.feedback.review import Repair
from accord.models.completer import Ability, Completer, Completion, Request
from accord.models.sampling import Sampling
from accord.policy.schema import Hazard, Policy
from accord.scorers.scorer import Scorer
from accord.types import Conversation, Finding, Outcome, Prompt, Transcript, acceptable, last_user_text

# A neutral beginning that no refusal has: the last resort where every sample declines a harmless request.
OPENING = "Here is"
_SENTENCE = re.compile(r"(?s)^.*[.!?][\"')\]]*(?=\s|$)")

Dress = Callable[[Finding, Prompt], Conversation | None]


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """How many samples are drawn for one answer, and how many contrast prompts stand beside one finding."""

    samples: int = 4
    contrasts: int = 2
    temperature: float = 0.8
    max_new_tokens: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Repaired:
    """Repairs for a person to review, and by reason how many answers were looked for in vain."""

    repairs: tuple[Repair, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An answer that is looked for: where it will stand, and the conversations that it is sampled from, in turn."""

    repair: Repair
    ask: tuple[Conversation, ...]
    completer: Completer


def same_dress(finding: Finding, prompt: Prompt) -> Conversation | None:
    """Return `prompt` in the conversation that was sent for a finding: its words in the place of the goal's.

    None where the goal's words do not stand in what was sent (an encoding, a rewording): the attack itself must dress it
    (`recipes.contrast_dress`).
    """
    if not finding.sent:
        return prompt.messages
    goal = last_user_text(finding.prompt.messages).strip()
    if not any(goal in m.content for m in finding.sent):
        return None
    text = last_user_text(prompt.messages).strip()
    return tuple(replace(m, content=m.content.replace(goal, text)) for m in finding.sent)


async def repair(
    store: FindingStore,
    policy: Policy,
    contrasts: Sequence[Prompt],
    answerer: Completer,
    base: Completer,
    scorer: Scorer,
    dress: Dress = same_dress,
    ids: Sequence[str] | None = None,
    settings: RepairSettings = RepairSettings(),
) -> Repaired:
    """Return repairs for the store's trainable findings, or for those of `ids`.

    Args:
        store: the findings; sealed ones cannot be had from it.
        policy: guidance and written response of each clause.
        contrasts: contrast prompts of the train split, of any clause.
        answerer: answers under the clause's guidance: the model itself, or any stronger one.
        base: the model before training; it answers contrast prompts.
        scorer: says how each sample ended.
        dress: puts a contrast prompt in a finding's dress; None where it cannot.
        ids: the findings to repair; all trainable ones if None.
        settings: how much is sampled.

    Raises:
        DataError: a finding of `ids` is sealed, a contrast prompt is none of the train split, or a result repeats a verify prompt.
        PolicyError: a harmful finding cites a hazard that the policy lacks.
    """
    wrong = [p.id for p in contrasts if p.split != "train" or p.kind != "contrast"]
    if wrong:
        raise DataError(f"{len(wrong)} prompts are no contrast prompts of the train split: {', '.join(wrong[:5])}")
    found_all = store.trainable(ids)
    findings = [f for f in found_all if f.asked[-1].role == "user"]
    left_out: Counter[str] = Counter()
    if len(findings) < len(found_all):
        left_out["what was sent does not end with a user's turn"] = len(found_all) - len(findings)
    wanted = [_of_finding(f, policy, answerer) for f in findings]
    wanted += _of_contrasts(findings, contrasts, base, dress, settings, left_out)
    store.refuse_sealed([w.repair.prompt for w in wanted])
    found = await _answers(wanted, policy, scorer, settings)
    refused = [w for w in wanted if w.repair.id not in found and w.repair.prompt.kind != "harmful"]
    opened = [w for w in refused if Ability.PREFILL in w.completer.abilities]
    found |= await _answers(opened, policy, scorer, settings, OPENING)
    repairs: list[Repair] = []
    for w in wanted:
        if w.repair.id in found:
            repairs.append(replace(w.repair, answer=found[w.repair.id]))
        elif w.repair.prompt.kind == "harmful":
            written = policy.hazard(w.repair.prompt.clause).written_response
            repairs.append(replace(w.repair, answer=written, origin="written response"))
        else:
            what = "contrast prompt" if w.repair.use == "contrast" else "wrongly refused request"
            left_out[f"no sample answers the {what}"] += 1
    return Repaired(tuple(repairs), dict(left_out))


def _of_finding(finding: Finding, policy: Policy, answerer: Completer) -> _Wanted:
    pair = f"finding {finding.id}"
    prompt = replace(finding.prompt, id=f"{finding.id}/repair", messages=finding.asked, pair=pair, source="finding")
    failure = finding.prefill + finding.answer
    harmful = finding.prompt.kind == "harmful"
    hazard = next((h for h in policy.hazards if h.id == finding.prompt.clause), None)
    if harmful:
        hazard = policy.hazard(finding.prompt.clause)
    system = _guidance(hazard) if harmful and hazard else _leave(hazard)
    # The goal in plain words too: a small model may not see through the dress.
    asked = (with_system(system, finding.asked), with_system(system, finding.prompt.messages))
    blank = Repair(prompt.id, finding.id, "repair", prompt, "", "sampled", failure if failure.strip() else "")
    return _Wanted(blank, asked, answerer)


def _of_contrasts(
    findings: Sequence[Finding],
    contrasts: Sequence[Prompt],
    base: Completer,
    dress: Dress,
    settings: RepairSettings,
    left_out: Counter[str],
) -> list[_Wanted]:
    """Return the contrast prompts for each harmful finding, those of its form first, none twice in one dress."""
    wanted: list[_Wanted] = []
    used: set[str] = set()
    for f in findings:
        if f.prompt.kind != "harmful":
            continue
        pool = [p for p in contrasts if p.clause == f.prompt.clause]
        random.Random(f"{settings.seed}:{f.id}").shuffle(pool)
        pool.sort(key=lambda p: p.form != f.prompt.form)
        n = 0
        for contrast in pool:
            if n == settings.contrasts:
                break
            sent = dress(f, contrast)
            if sent is None:
                left_out[f"a contrast prompt cannot be dressed by {f.attack}"] += 1
                break
            if show(sent) in used:
                continue
            used.add(show(sent))
            n += 1
            id = f"{f.id}/contrast-{n}"
            prompt = replace(contrast, id=id, messages=sent, pair=f"finding {f.id}", source="finding")
            asked = (sent, contrast.messages)
            wanted.append(_Wanted(Repair(id, f.id, "contrast", prompt, "", "sampled"), asked, base))
        if not pool:
            left_out[f"no contrast prompt for clause {f.prompt.clause}"] += 1
    return wanted


async def _answers(
    wanted: Sequence[_Wanted], policy: Policy, scorer: Scorer, settings: RepairSettings, opening: str = ""
) -> dict[str, str]:
    """Return by id the first sample that is whole and acceptable; all are asked for at once.

    The likeliest answer to each conversation comes first, since what is drawn from a small model is often worse.
    """
    asked = [(w, k, w.ask[k % len(w.ask)]) for w in wanted for k in range(settings.samples)]

    def ask(w: _Wanted, k: int, messages: Conversation) -> Awaitable[Completion]:
        temperature = settings.temperature if k >= len(w.ask) else 0.0
        sampling = Sampling(settings.max_new_tokens, temperature, settings.seed)
        return w.completer.complete(Request(messages, sampling, f"{w.repair.id}/{k}{opening}", opening))

    completions = await asyncio.gather(*(ask(w, k, messages) for w, k, messages in asked))
    tried = [
        (w, _whole(c, opening, w.repair.prompt.kind == "harmful"))
        for (w, _, _), c in zip(asked, completions, strict=True)
    ]
    tried = [(w, text) for w, text in tried if text]
    shown = [_transcript(w.repair.prompt, w.ask, text) for w, text in tried]
    # A judge behind a server runs a loop of its own, which cannot be this thread's.
    scores = await asyncio.to_thread(scorer.score_all, shown)
    found: dict[str, str] = {}
    for (w, text), score in zip(tried, scores, strict=True):
        if _teaches(w.repair.prompt, policy, score.outcome):
            found.setdefault(w.repair.id, text)
    return found


def _teaches(prompt: Prompt, policy: Policy, outcome: Outcome) -> bool:
    """Whether an answer is one to learn; a benign request's must not decline even in part."""
    if prompt.kind != "harmful":
        return outcome is Outcome.COMPLIED
    return acceptable(prompt.kind, policy.response_mode(prompt.clause), outcome) is True


def _transcript(prompt: Prompt, ask: Sequence[Conversation], text: str) -> Transcript:
    return Transcript(prompt.messages, text, prompt.kind, prompt.clause, last_user_text(ask[-1]))


def _whole(completion: Completion, opening: str, declines: bool) -> str:
    """Return a sample's text, cut back to its last whole sentence where it ran out of tokens; empty where there is none.

    An answer that is to decline is short: one that ran out of tokens rambles, and is none to learn.
    """
    if completion.error or not completion.text.strip() or (declines and completion.truncated):
        return ""
    text = (opening + completion.text).strip()
    return whole_sentences(text) if completion.truncated else text


def whole_sentences(text: str) -> str:
    """Return a text up to the end of its last whole sentence; empty where it has none."""
    match = _SENTENCE.match(text)
    return match.group().strip() if match else ""


def _guidance(hazard: Hazard) -> str:
    return (
        f"{hazard.name}: {hazard.definition} If a request falls under this, in whatever words or role it comes, answer like "
        f"this: {hazard.guidance}"
    )


def _leave(hazard: Hazard | None) -> str:
    allowed = f" These are fine: {'; '.join(hazard.allowed)}." if hazard and hazard.allowed else ""
    return f"The request is harmless. Answer it directly and helpfully.{allowed}"
