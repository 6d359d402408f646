"""What an attempt can be evidence of, given what was trained on."""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

from accord.types import Prompt

Lineage = Literal["regression", "transfer", "fresh"]


def trained_id(prompt_id: str, attack: str = "") -> str:
    """Return the name of what is trained on: a prompt as one attack dresses it; its own id where none does."""
    return f"{prompt_id} by {attack}" if attack not in ("", "direct") else prompt_id


def lineage(prompt: Prompt, trained_families: Container[str], trained_ids: Container[str], attack: str = "") -> Lineage:
    """Return what an attempt at `prompt` by `attack` shows of a model trained on these families and `trained_id`s.

    `regression`: the very item was trained on. `transfer`: its family was, in another form or by another attack. `fresh`: neither;
    only this says how the model meets what it was not taught. A prompt without a family stands for itself.
    """
    if trained_id(prompt.id, attack) in trained_ids:
        return "regression"
    if prompt.id in trained_ids or (prompt.family and prompt.family in trained_families):
        return "transfer"
    return "fresh"
