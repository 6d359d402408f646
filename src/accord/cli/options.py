"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accord.errors import DataError, InputError


def existing(value: Any) -> Any:
    """Refuse a path, or one of several, where nothing is: at once, before any library is loaded.

    Raises:
        DataError: naming it.
    """
    for path in value if isinstance(value, list) else [value]:
        if path and not Path(path).exists():
            raise DataError(f"{path}: no such file")
    return value


def system_prompt_of(text: str) -> str:
    """Return a system prompt: what the file of this name holds, or the text itself.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        is_file = bool(text) and Path(text).is_file()
    except OSError:  # a text too long for a file's name
        is_file = False
    if not is_file:
        return text
    try:
        return Path(text).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--system {text}: cannot be read as text: {error}") from error


Model = Annotated[str, typer.Option(help="A hub id, a local folder, a run, or 'starter'.")]
Method = Annotated[str, typer.Option(help="lora, dora (slower), rslora, or full for all weights.")]
PrecisionName = Annotated[str, typer.Option(help="auto, fp32 or bf16; to train adapters also int8 or nf4 (4 bits).")]
LAYERS_HELP = "Layers with adapters: all, upper (the upper three fifths), 22-29, or 22- for 22 and up."
Layers = Annotated[str, typer.Option(help=LAYERS_HELP)]
Checkpointing = Annotated[
    bool,
    typer.Option(
        "--checkpointing",
        help="Keep each layer's input alone and compute the layer again for its gradient: "
        "much less memory, a third to a half more work.",
    ),
]
JUDGE_HELP = (
    "refusal, keywords, evidence, rubric:MODEL[,reasoning_tokens=N], constrained:MODEL, guard:MODEL, "
    "remote:openai:NAME@URL, classifier:PATH, reward:RUN,border=NUMBER, cost:RUN, an http(s) address, or FILE.py:NAME."
)
Judge = Annotated[str, typer.Option(help=f"What reads the answers: {JUDGE_HELP}")]
Rank = Annotated[int, typer.Option(help="The adapters' rank.")]
Track = Annotated[
    list[str], typer.Option(help="Also draw curves in tensorboard, wandb, mlflow or trackio; several times.")
]
Seed = Annotated[int, typer.Option(help="Fixes all that is random.")]
