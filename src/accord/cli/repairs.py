"""`accord findings repair` and `lessons`: from failures to a file that a person reviews, and from that to what is trained on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from accord.cli.findings import DEFAULT_STORE, Store, open_store
from accord.cli.options import Judge, Seed, existing

if TYPE_CHECKING:
    from accord.feedback.repair import Repaired


def findings_repair(
    model: str = typer.Argument(
        ..., help="The model that failed: a run, a local folder, a hub id, openai:NAME@URL, or 'starter'."
    ),
    out: Path = typer.Argument(..., help="The JSONL file to write, for a person to review."),
    answerer: str = typer.Option(
        "", help="Another model, as a stronger one, that writes the acceptable answers; the one that failed if none."
    ),
    store: Store = DEFAULT_STORE,
    only: list[str] = typer.Option([], "--id", help="Repair this finding only; several times."),
    policy: str = typer.Option("", callback=existing, help="A policy document (YAML); the starter policy if none."),
    demonstrations: str = typer.Option(
        "", help="Where contrast prompts are taken from (JSONL); the starter's if none."
    ),
    judge: Judge = "refusal",
    samples: int = typer.Option(None, min=1, help="Samples drawn for one answer."),
    contrasts: int = typer.Option(None, min=0, help="Contrast prompts beside one harmful finding."),
    max_new_tokens: int = typer.Option(None, min=1, help="The longest answer."),
    seed: Seed = 0,
) -> None:
    """Write an acceptable answer for each trainable finding, and benign prompts in the same dress that must be answered."""
    from accord.data.records import read_demonstrations
    from accord.feedback.repair import RepairSettings, repair
    from accord.feedback.review import write_repairs
    from accord.models.opening import open_completer
    from accord.policy import load_policy
    from accord.recipes.contrast_dress import dressed_alike
    from accord.scorers.named import scorer_named
    from accord.scorers.selfcheck import require_trusted
    from accord.starter import demonstrations_path, policy_path

    rules = load_policy(policy or policy_path())
    scorer = scorer_named(judge, rules)
    require_trusted(scorer, rules)
    rows = read_demonstrations(demonstrations or demonstrations_path())
    pool = [d.prompt for d in rows if d.prompt.kind == "contrast" and d.prompt.split == "train"]
    given = {"samples": samples, "contrasts": contrasts, "max_new_tokens": max_new_tokens}
    settings = RepairSettings(**{name: value for name, value in given.items() if value is not None}, seed=seed)
    with open_store(store) as opened:
        opened.trainable(only or None)  # a sealed one is refused before a model is loaded
        base = open_completer(model)
        writer = open_completer(answerer) if answerer else base

        async def make() -> Repaired:
            try:
                return await repair(opened, rules, pool, writer, base, scorer, dressed_alike, only or None, settings)
            finally:
                await base.close()
                if writer is not base:
                    await writer.close()

        result = asyncio.run(make())
    write_repairs(out, result.repairs)
    n_written = sum(r.origin == "written response" for r in result.repairs)
    n_contrast = sum(r.use == "contrast" for r in result.repairs)
    print(f"{out}: {len(result.repairs) - n_contrast} findings repaired, {n_written} of them by their clause's written "
          f"response; {n_contrast} contrast prompts beside them")  # fmt: skip
    for why, n in result.left_out.items():
        print(f"  left out: {n} x {why}")
    print('review it: set "review" to "accepted" or "rejected", or change "answer" and set "edited"; then run '
          f"`accord findings lessons {out} FOLDER`")  # fmt: skip


def findings_lessons(
    file: Path = typer.Argument(..., help="A file of repairs, reviewed or not."),
    out: Path = typer.Argument(..., help="The folder for demonstrations.jsonl and comparisons.jsonl."),
    store: Store = DEFAULT_STORE,
    only_reviewed: bool = typer.Option(False, "--only-reviewed", help="Leave out rows that nobody has looked at."),
) -> None:
    """Write what may be trained on of a file of repairs; a row whose finding is sealed is refused."""
    from accord.data.records import write_records
    from accord.errors import DataError
    from accord.feedback.review import lessons, read_repairs

    repairs = read_repairs(file)
    with open_store(store) as opened:
        learned = lessons(repairs, opened, only_reviewed)
    if not learned.demonstrations:
        raise DataError(f"{file}: nothing is left to train on: {learned.left_out}")
    write_records(out / "demonstrations.jsonl", learned.demonstrations)
    write_records(out / "comparisons.jsonl", learned.comparisons)
    print(f"{out}: {len(learned.demonstrations)} demonstrations, {len(learned.comparisons)} comparisons, "
          f"{learned.n_unreviewed} rows that nobody has looked at")  # fmt: skip
    for why, n in learned.left_out.items():
        print(f"  left out: {n} x {why}")


COMMANDS = (findings_repair, findings_lessons)
