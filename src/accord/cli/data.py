"""`accord data check`: what a file holds, what is supervised, and every fault with its line."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from accord.errors import DataError
from accord.types import Conversation


def data_check(
    file: Path = typer.Argument(..., help="A JSONL file: comparisons, hh-rlhf text, demonstrations or prompts."),
    model: str = typer.Option("starter", help="The model whose chat template and tokenizer are used with --show."),
    show: int = typer.Option(0, min=0, help="Print the first so many rows as the model sees them."),
    json_: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """Read a data file as training would; print counts and faults. Ends with code 2 where a row cannot be used."""
    from accord.data.checks import check_comparisons
    from accord.data.jsonl import read_rows
    from accord.data.records import read_demonstrations

    rows = read_rows(file)
    if "messages" in rows[0].data and "chosen" not in rows[0].data:
        demonstrations = read_demonstrations(file)
        found = {"rows": len(rows), "usable": len(demonstrations)}
        faults = ""
        examples: list[tuple[Conversation, tuple[str, ...]]]
        examples = [(d.prompt.messages, (d.answer,)) for d in demonstrations[:show]]
    else:
        report = check_comparisons(rows)
        found = {
            "rows": report.rows, "usable": report.usable, "identical": report.identical,
            "empty_completion": report.empty_completion, "malformed": report.malformed,
        }  # fmt: skip
        faults = str(report)
        examples = []
        if show:
            from accord.data.checks import read_comparisons

            usable = read_comparisons(file, drop=True).comparisons[:show]
            examples = [(c.messages, (c.chosen, c.rejected)) for c in usable]
    print(json.dumps(found) if json_ else faults or f"{file}: {found['rows']} rows, {found['usable']} usable")
    if examples:
        from accord.models.chat import ChatFormat
        from accord.models.load import load_model

        chat = ChatFormat(load_model(model).tokenizer)
        for messages, answers in examples:
            prompt = chat.prompt(messages)
            print(f"--- prompt, {len(prompt)} tokens, none supervised\n{chat.tokenizer.decode(prompt)}")
            for answer in answers:
                ids = chat.answer(answer)
                print(f"--- answer, {len(ids)} tokens, all supervised\n{chat.tokenizer.decode(ids)}")
    if found["usable"] < found["rows"]:
        raise DataError(f"{file}: {found['rows'] - found['usable']} of {found['rows']} rows cannot be used")


COMMANDS = (data_check,)
