"""`accord data check`: what a file holds, what is supervised, and every flaw with its line and its code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from accord.cli.numbers import told
from accord.cli.options import existing
from accord.errors import DataError

if TYPE_CHECKING:
    from accord.data.audit import Audit
    from accord.data.examples import Example
    from accord.models.chat import ChatFormat

N_EXAMPLES = 3


def data_check(
    file: Path = typer.Argument(
        ..., callback=existing, help="A JSONL file: comparisons, hh-rlhf text, ratings, demonstrations or prompts."
    ),
    model: str = typer.Option("starter", help="The model whose chat template, tokenizer and window are used."),
    against: list[Path] = typer.Option(
        [], callback=existing, help="An evaluation file of which nothing may stand in FILE; several times."
    ),
    allow: list[str] = typer.Option([], help="The code of an error that is no obstacle here; several times."),
    show: int = typer.Option(0, min=0, help="Print the first so many rows as the model sees them."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON, every flaw with its line."),
) -> None:
    """Check a data file before any training: counts, flaws by code, examples. Ends with code 2 at an error that is not allowed."""
    from accord.data.audit import audit
    from accord.data.examples import read_examples
    from accord.models.chat import ChatFormat
    from accord.models.embedder import INSTALL_EMBEDDER, Embedder, embedder_folder
    from accord.models.load import load_tokenizer, window_of

    given = read_examples(file)
    evaluation = {str(path): read_examples(path) for path in against}
    chat = ChatFormat(load_tokenizer(model))
    embed = Embedder() if evaluation and embedder_folder() else None
    report = audit(given, chat, window_of(model), evaluation, embed, allow)
    if json_:
        print(json.dumps(_as_json(report)))
    else:
        print("\n".join(_lines(file, report)))
        if evaluation and not report.meaning_compared:
            print(f"meaning was not compared: the sentence embedder is not installed; run: {INSTALL_EMBEDDER}")
    for example in given.examples[:show]:
        _show(chat, example)
    if report.refused:
        raise DataError(f"{file}: {', '.join(report.refused)}; correct the rows, or allow a code with --allow CODE")


def _lines(file: Path, report: Audit) -> list[str]:
    from accord.data.flaws import CODES

    lines = [f"{file}: {report.kind}, {report.n_rows} rows, {report.n_usable} usable"]
    if report.labels:
        lines.append("labels: " + ", ".join(f"{name} {n}" for name, n in sorted(report.labels.items())))
    if report.longer_chosen is not None:
        lines.append(f"chosen is the longer answer: {told(report.longer_chosen)}")
    lines += [f"compared with {name}: {n} rows" for name, n in report.n_compared.items()]
    for found in report.flaws:
        word = f"{found.severity}, allowed" if found.allowed else found.severity
        n_lines = len({f.line for f in found.flaws})
        of_file = all(f.line == 0 for f in found.flaws)
        share = "" if of_file else f" in {n_lines} of {report.n_rows} rows ({n_lines / report.n_rows:.1%})"
        lines.append(f"{word}: {found.code}{share}: {CODES[found.code].meaning}")
        lines += [f"  {file}:{f.line}: {f.message}" if f.line else f"  {f.message}" for f in found.flaws[:N_EXAMPLES]]
        if len(found.flaws) > N_EXAMPLES:
            lines.append(f"  … and {len(found.flaws) - N_EXAMPLES} more")
    return lines if report.flaws else [*lines, "no flaw found"]


def _as_json(report: Audit) -> dict[str, Any]:
    return {
        "kind": report.kind,
        "rows": report.n_rows,
        "usable": report.n_usable,
        "labels": dict(report.labels),
        "longer_chosen": report.longer_chosen and asdict(report.longer_chosen),
        "compared": dict(report.n_compared),
        "meaning_compared": report.meaning_compared,
        "refused": list(report.refused),
        "flaws": {
            found.code: {
                "severity": found.severity,
                "allowed": found.allowed,
                "rows": [{"line": f.line, "message": f.message} for f in found.flaws],
            }
            for found in report.flaws
        },
    }


def _show(chat: ChatFormat, example: Example) -> None:
    prompt = chat.prompt(example.messages)
    print(f"--- prompt, {len(prompt)} tokens, none supervised\n{chat.tokenizer.decode(prompt)}")
    for answer in example.answers:
        ids = chat.answer(answer)
        print(f"--- answer, {len(ids)} tokens, all supervised\n{chat.tokenizer.decode(ids)}")


COMMANDS = (data_check,)
