"""`accord judge compare`: which of two answers a judge calls the better one, asked in both orders."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from accord.cli.judge import show
from accord.cli.options import existing
from accord.errors import NotMeasuredError, SettingsError

if TYPE_CHECKING:
    from accord.scorers.pairwise import Pair, PairwiseResult


def judge_compare(
    judge: str = typer.Argument(..., help="The judge: rubric:MODEL, or remote:openai:NAME@URL."),
    answers: list[Path] = typer.Argument(
        ..., callback=existing, help="A file of comparisons, or two folders of `accord eval`, A and B."
    ),
    criterion: str = typer.Option(
        "", help="What makes an answer the better one; the policy's hazards, then helpfulness, if none."
    ),
    policy: str = typer.Option("", callback=existing, help="The policy; the starter policy if none."),
    drop: bool = typer.Option(False, "--drop", help="Leave out comparisons that cannot be used, and count them."),
    out: Path = typer.Option(None, help="Also write every pair with its verdict here (JSONL)."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Have a judge compare pairs of answers in both orders: a pair that turns with the order is a tie, and is counted.

    Where people prefer one of the two, the share of the decided pairs in which the judge agrees with them is shown.
    """
    from accord.data.jsonl import write_rows
    from accord.policy import load_policy
    from accord.policy.rubric import better
    from accord.scorers.pairwise import judge_pairs, pair_judge_named
    from accord.starter import policy_path

    pairs, names, left_out = _pairs(answers, drop)
    asked = pair_judge_named(judge, criterion or better(load_policy(policy or policy_path())))
    result = asyncio.run(judge_pairs(pairs, asked))
    rows = _rows(pairs, result, names)
    if out is not None:
        write_rows(out, rows)
    facts = {
        "judge": judge, "pairs": len(pairs), "left out": left_out, "questions": result.n_calls, "names": names,
        "wins": result.games.wins, "ties": result.games.ties, "losses": result.games.losses,
        "win_rate": asdict(result.games.adjusted), "inconsistent": asdict(result.inconsistent),
        "agreement": asdict(result.agreement) if _rated(pairs) else None,
    }  # fmt: skip
    print(json.dumps(facts) if json_ else "\n".join(_lines(judge, pairs, result, names, left_out, out)))
    if not result.games.n:
        raise NotMeasuredError(f"{judge} gave no verdict on any of the {len(pairs)} pairs")


def _pairs(answers: Sequence[Path], drop: bool) -> tuple[tuple[Pair, ...], tuple[str, str], dict[str, int]]:
    """Return the pairs, what each side is called, and how many were left out, by reason."""
    from accord.data.checks import read_comparisons
    from accord.evals.answer_pairs import pairs_of_comparisons, pairs_of_runs

    if len(answers) == 1 and answers[0].is_file():
        read = read_comparisons(answers[0], drop=drop)
        left_out = {"identical, or an empty answer": len(read.report.faults)}
        return pairs_of_comparisons(read.comparisons), ("chosen", "rejected"), _counted(left_out)
    if len(answers) != 2:
        raise SettingsError(
            f"{' '.join(map(str, answers))}: expected one file of comparisons, or two folders of `accord eval`"
        )
    found = pairs_of_runs(*answers)
    left_out = {"asked in one run alone": found.unmatched, "an error for an answer": found.failed}
    return found.pairs, ("A", "B"), _counted(left_out)


def _counted(counts: dict[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in counts.items() if n}


def _rated(pairs: Sequence[Pair]) -> bool:
    return any(pair.preferred for pair in pairs)


def _rows(pairs: Sequence[Pair], result: PairwiseResult, names: tuple[str, str]) -> list[dict[str, Any]]:
    called = {"ours": names[0], "theirs": names[1], "tie": "tie", None: None}
    return [
        {
            "id": p.id, "request": p.request, names[0]: p.ours, names[1]: p.theirs, "preferred": called[p.preferred],
            "winner": called[v.winner], "consistent": v.consistent, "problem": v.problem, "replies": list(v.replies),
        }
        for p, v in zip(pairs, result.verdicts, strict=True)
    ]  # fmt: skip


def _lines(
    judge: str,
    pairs: Sequence[Pair],
    result: PairwiseResult,
    names: tuple[str, str],
    left_out: dict[str, int],
    out: Path | None,
) -> list[str]:
    games = result.games
    lines = [f"{judge}: {len(pairs)} pairs in both orders, {result.n_calls} questions"]
    lines += [f"  left out: {n} {reason}" for reason, n in left_out.items()]
    lines.append(show(f"{names[0]} wins over {names[1]}, a tie as half", games.adjusted))
    lines.append(f"    {games.wins} won, {games.ties} tied, {games.losses} lost")
    lines.append(show("inconsistent: turned with the order", result.inconsistent))
    if _rated(pairs):
        lines.append(show("agreement with people, of decided pairs", result.agreement))
        lines += [f"    {n} undecided: {reason}" for reason, n in sorted(result.agreement.unscored.items())]
    lines += [f"  unscored: {n} {reason}" for reason, n in sorted(games.adjusted.unscored.items())]
    return lines + ([f"pairs with verdicts: {out}"] if out else [])
