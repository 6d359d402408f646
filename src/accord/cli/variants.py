"""`accord findings shrink|siblings`: the shortest form of a failure, and what other attacks make of its goal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from accord.cli.findings import DEFAULT_STORE, Store, open_store
from accord.cli.options import Judge
from accord.errors import InputError, NotMeasuredError

if TYPE_CHECKING:
    from accord.redteam.minimal import Minimal
    from accord.types import Attempt, Finding


def findings_shrink(
    ids: list[str] = typer.Argument(..., help="The findings' ids."),
    model: str = typer.Option(
        ..., help="The model that fails: a run, a local folder, a hub id, openai:NAME@URL, 'starter'."
    ),
    queries: int = typer.Option(60, min=1, help="Questions for each finding."),
    max_new_tokens: int = typer.Option(64, min=1, help="Tokens of an answer."),
    policy: str = typer.Option("", help="The policy that answers are held against; the starter policy if none."),
    judge: Judge = "refusal",
    store: Store = DEFAULT_STORE,
) -> None:
    """Find the shortest prompt that still fails, and keep it with the finding."""
    from accord.models.coalesce import Coalescer
    from accord.models.opening import open_completer
    from accord.models.sampling import Sampling
    from accord.policy import load_policy
    from accord.redteam.campaign import JUDGE_ROWS
    from accord.redteam.minimal import minimal_form
    from accord.redteam.regression import reader_for, target_for
    from accord.scorers.named import scorer_named
    from accord.scorers.selfcheck import require_trusted
    from accord.starter import policy_path

    rules = load_policy(policy or policy_path())
    scorer = scorer_named(judge, rules)
    require_trusted(scorer, rules)
    with open_store(store) as opened:
        found = [opened.get(id) for id in ids]
        if other := [f"{f.id} ({f.failure})" for f in found if f.failure != "harmful-compliance"]:
            raise InputError(f"only what was complied with can be shortened; leave out {', '.join(other)}")
        completer = open_completer(model)
        sampling = Sampling(max_new_tokens, 0.0)

        async def search() -> list[Minimal]:
            reads = Coalescer(scorer.score_all, JUDGE_ROWS)
            try:
                targets = [target_for(f, completer, reads, rules, sampling, queries) for f in found]
                # All before the first question: an attack that cannot be rebuilt must not cost what others found.
                readers = [reader_for(f, target) for f, target in zip(found, targets, strict=True)]
                return [
                    await minimal_form(_as_attempt(f), target, read)
                    for f, target, read in zip(found, targets, readers, strict=True)
                ]
            finally:
                reads.close()
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


def _as_attempt(finding: Finding) -> Attempt:
    from accord.types import Attempt

    return Attempt(
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
