"""`accord findings shrink|siblings`: the shortest form of a failure, and what other attacks make of its goal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from accord.cli.findings import DEFAULT_STORE, Store, open_store
from accord.errors import InputError, NotMeasuredError

if TYPE_CHECKING:
    from accord.models.completer import Completer
    from accord.redteam.minimal import Minimal
    from accord.types import Finding


def findings_shrink(
    ids: list[str] = typer.Argument(..., help="The findings' ids."),
    model: str = typer.Option(
        ..., help="The model that fails: a run, a local folder, a hub id, openai:NAME@URL, 'starter'."
    ),
    queries: int = typer.Option(60, min=1, help="Questions for each finding."),
    max_new_tokens: int = typer.Option(64, min=1, help="Tokens of an answer."),
    store: Store = DEFAULT_STORE,
) -> None:
    """Find the shortest prompt that still fails, and keep it with the finding."""
    from accord.models.opening import open_completer

    with open_store(store) as opened:
        found = [opened.get(id) for id in ids]
        if other := [f"{f.id} ({f.failure})" for f in found if f.failure != "harmful-compliance"]:
            raise InputError(f"only what was complied with can be shortened; leave out {', '.join(other)}")
        completer = open_completer(model)

        async def search() -> list[Minimal]:
            try:
                return [await _shrunk(finding, completer, queries, max_new_tokens) for finding in found]
            finally:
                await completer.close()

        shortest = asyncio.run(search())
        for finding, minimal in zip(found, shortest, strict=True):
            if not minimal.reproduced:
                print(f"{finding.id}: did not fail again in {minimal.queries} questions; nothing was kept")
                continue
            text = "\n".join(m.content for m in minimal.sent if m.role == "user")
            opened.attach_minimal(finding.id, text)
            left = "" if minimal.is_minimal else ", and might be shorter with more questions"
            print(f"{finding.id}: {len(text.split())} words after {minimal.queries} questions{left}: {text}")
    if not any(minimal.reproduced for minimal in shortest):
        raise NotMeasuredError(f"not one of {len(found)} findings failed again on {model}")


async def _shrunk(finding: Finding, completer: Completer, queries: int, max_new_tokens: int) -> Minimal:
    from accord.models.sampling import Sampling
    from accord.redteam.minimal import minimal_form
    from accord.redteam.target import Budget, Target
    from accord.scorers.refusal import RefusalScorer
    from accord.types import Attempt, Score, Transcript

    scorer = RefusalScorer()

    async def judge(transcript: Transcript) -> Score:
        return scorer.score_all([transcript])[0]

    sampling = Sampling(max_new_tokens, 0.0)
    target = Target(completer, judge, finding.prompt, finding.attack or "direct", Budget(queries), sampling, completer)
    failing = Attempt(
        id=finding.id,
        prompt=finding.prompt,
        condition=finding.condition,
        answer=finding.answer,
        n_tokens=0,
        truncated=False,
        score=finding.score,
        seed=0,
        attack=finding.attack,
        sent=finding.asked,
        prefill=finding.prefill,
    )
    return await minimal_form(failing, target)


def findings_siblings(
    ids: list[str] = typer.Argument(..., help="The findings' ids."), store: Store = DEFAULT_STORE
) -> None:
    """Keep with each finding what the other attacks make of its goal: variants to verify a fix with."""
    from accord.redteam.siblings import siblings

    with open_store(store) as opened:
        for id in ids:
            finding = opened.get(id)
            made = siblings(finding.prompt, finding.attack)
            opened.attach_siblings(id, ["\n".join(m.content for m in s.sent if m.role == "user") for s in made])
            print(f"{id}: {len(made)} siblings, by {', '.join(s.attack for s in made)}")


COMMANDS = (findings_shrink, findings_siblings)
