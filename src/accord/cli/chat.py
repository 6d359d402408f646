"""`accord chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys

import typer


def chat(
    run: str = typer.Argument(..., help="A run's folder, a model folder, a hub id, or 'starter'."),
    system: str = typer.Option("", help="A system prompt."),
    temperature: float = typer.Option(0.0, min=0.0, help="0 always takes the likeliest token."),
    max_new_tokens: int = typer.Option(256, min=1, help="The longest answer."),
) -> None:
    """Talk to a model; an empty line or Ctrl-D ends. Text from a pipe is answered line by line."""
    from accord.evals.runner import ready
    from accord.models.chat import ChatFormat
    from accord.models.load import load_model
    from accord.models.rollout import generate
    from accord.models.sampling import Sampling
    from accord.types import Message

    loaded = load_model(run)
    fmt = ChatFormat(loaded.tokenizer)
    turns = [Message("system", system)] if system else []
    interactive = sys.stdin.isatty()
    # Folding adapters in and packing weights takes a second, once a talk instead of once an answer.
    with ready(loaded.model):
        while True:
            if interactive:
                print("you> ", end="", flush=True)
            line = sys.stdin.readline()
            if not line.strip():
                break
            turns.append(Message("user", line.strip()))
            ids = fmt.prompt(turns)
            sampling = Sampling(max_new_tokens, temperature, seed=len(turns))
            answer = fmt.decode(generate(loaded.model, [ids], ["chat"], fmt.end_ids, sampling)[0].ids).strip()
            turns.append(Message("assistant", answer))
            print(f"model> {answer}", flush=True)
