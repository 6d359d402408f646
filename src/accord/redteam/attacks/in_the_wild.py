"""The goal in prompts that people shared, read from a file."""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from accord.data.jsonl import read_rows
from accord.errors import DataError, SettingsError
from accord.redteam.dressing import Dressed, Dressing
from accord.redteam.target import in_place
from accord.types import Prompt

_PLACE = re.compile(
    r"\[(?:insert |your |the |put )*(?:prompt|question|query|input|request|goal|x)(?: here)?\]"
    r"|<(?:prompt|query|question|goal)>|\{(?:prompt|query|question|input|goal)\}",
    re.IGNORECASE,
)
# Collections also hold bare requests; a text without a place for the goal must be long enough to be a frame.
_FRAME_WORDS = 40


@dataclass(frozen=True)
class InTheWild(Dressing):
    """Puts the goal into jailbreak prompts that people shared, read from a file: `n` of them, drawn at random for each goal.

    `path` is a JSONL file whose rows have a `prompt`. The goal takes the place that a prompt leaves for it (`[INSERT PROMPT
    HERE]`, `{query}`), or stands behind the prompt.

    Source: Shen et al. 2023, "Do Anything Now: Characterizing and Evaluating In-The-Wild Jailbreak Prompts on Large Language
    Models" (arXiv 2308.03825), and its published collection.
    """

    path: str = ""
    n: int = 3

    def dress(self, goal: Prompt, rng: random.Random) -> Sequence[Dressed]:
        """Return the goal in `n` prompts of the file.

        Raises:
            SettingsError: no file was named.
            DataError: the file cannot be read or holds no such prompt.
        """
        if not self.path:
            raise SettingsError(
                "in_the_wild has no prompts of its own; expected path=FILE, a JSONL file whose rows have a 'prompt' "
                "(docs/data.md names a public collection)"
            )
        frames = _frames(self.path)
        drawn = rng.sample(range(len(frames)), min(self.n, len(frames)))
        text = goal.messages[-1].content
        return [Dressed(in_place(goal, _filled(frames[i][1], text)), note=f"line {frames[i][0]}") for i in drawn]


@functools.lru_cache(maxsize=4)
def _frames(path: str) -> tuple[tuple[int, str], ...]:
    """Return the prompts of a file that can hold a goal, each with its line."""
    rows = [(row.line, row.data.get("prompt")) for row in read_rows(path)]
    texts = [(line, text) for line, text in rows if isinstance(text, str)]
    frames = tuple((line, t) for line, t in texts if _PLACE.search(t) or len(t.split()) >= _FRAME_WORDS)
    if not frames:
        raise DataError(f"{path}: no row has a 'prompt' that a goal fits into")
    return frames


def _filled(frame: str, goal: str) -> str:
    """Return the frame with the goal in every place left for it; a function, since the goal may hold a backslash."""
    return _PLACE.sub(lambda _: goal, frame) if _PLACE.search(frame) else f"{frame}\n\n{goal}"
