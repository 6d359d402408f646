"""Conversations to token ids: one chat format a model, spans found by position, text that stays text.

What is supervised is known by where it stands, never by a token's id, since a pad token may *be* the end token. The prompt's
ids are those that generation sees; an answer's ids are those of its text and of the end of its turn, so that stopping is
learned. Text that spells a control token is tokenised as text. The begin token occurs at most once, at the front.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from accord.errors import DataError, ModelError
from accord.types import Message

# Private-use characters: no template branches on them, and a content is swapped in only after rendering.
_OPEN, _CLOSE = "\ue000", "\ue001"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt's ids and an answer's ids; the answer's include the end of its turn. All of `answer` is supervised."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


class ChatFormat:
    """The chat template of one tokenizer, made safe for text from strangers."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        # What controls: special tokens, and added ones that the template itself builds turns with. Other added tokens (runs of
        # spaces in GPT-NeoX, <think> in Qwen3) are text like any other.
        built = "".join(self._render([Message("user", "a"), Message("assistant", "b")])[::2])
        added = getattr(tokenizer, "added_tokens_decoder", {})
        control = {int(i): str(t) for i, t in added.items() if t.special or (str(t).strip() and str(t) in built)}
        self._control = sorted({*control.values(), *tokenizer.all_special_tokens})
        self._control_ids = {*control, *tokenizer.all_special_ids}
        self._end = self._end_of_turn()
        self._begin = self._begin_id()

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """How the tokens are spelled that control a conversation."""
        return tuple(self._control)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a turn while generating: the tokenizer's end token, and the template's where it is a control token."""
        ends = {int(self.tokenizer.eos_token_id)} if self.tokenizer.eos_token_id is not None else set()
        ends |= {i for i in self._end[-1:] if i in self._control_ids}
        return frozenset(ends)

    def prompt(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the ids up to where the assistant's next answer begins.

        Raises:
            DataError: the conversation does not end with a user's (or tool's) turn, or the template refuses it.
        """
        if not messages or messages[-1].role not in ("user", "tool"):
            raise DataError("a prompt must end with a user's turn")
        pieces = self._render([*messages, Message("assistant", "")])
        return self._encode(pieces[: 2 * len(messages) + 1], messages)

    def answer(self, text: str) -> tuple[int, ...]:
        """Return the ids of an answer and of the end of its turn."""
        return (*self._text_ids(text), *self._end)

    def opening(self, text: str) -> tuple[int, ...]:
        """Return the ids of an answer's beginning, whose turn goes on; empty for an empty text."""
        return tuple(self._text_ids(text))

    def render(self, messages: Sequence[Message], answer: str) -> Rendered:
        """Return a conversation and its answer as ids.

        Raises:
            DataError: as `prompt`, or the answer is empty (nothing would be supervised).
        """
        if not answer.strip():
            raise DataError("the answer is empty: nothing would be supervised")
        return Rendered(self.prompt(messages), self.answer(answer))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, without the end of the turn."""
        kept = list(ids)
        while kept and kept[-1] in self.end_ids:
            kept.pop()
        return str(self.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _render(self, messages: Sequence[Message]) -> list[str]:
        """Render with a mark in each content's place; return [literal, mark 0, literal, mark 1, ..., literal]."""
        marks = [f"{_OPEN}{i}{_CLOSE}" for i in range(len(messages))]
        rows = [{**m.extra, "role": m.role, "content": mark} for m, mark in zip(messages, marks, strict=True)]
        try:
            text = str(self.tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=False))
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"the chat template refuses this conversation: {error}") from error
        pieces: list[str] = []
        rest = text
        for i, mark in enumerate(marks):
            before, found, rest = rest.partition(mark)
            if not found:
                role = messages[i].role
                raise DataError(f"the chat template drops the content of turn {i + 1} ({role}); use another template")
            pieces += [before, mark]
        return [*pieces, rest]

    def _encode(self, pieces: Sequence[str], messages: Sequence[Message]) -> tuple[int, ...]:
        """Tokenise literals (control tokens are read) and contents (they are not)."""
        contents = [m.content for m in messages]
        if any(token in content for content in contents for token in self._control):
            ids: list[int] = []
            for i, piece in enumerate(pieces):
                ids += self._text_ids(contents[i // 2]) if i % 2 else self._literal_ids(piece)
        else:
            joined = "".join(contents[i // 2] if i % 2 else piece for i, piece in enumerate(pieces))
            ids = self._literal_ids(joined)
        if self._begin is not None:
            while len(ids) > 1 and ids[0] == ids[1] == self._begin:
                ids.pop(0)
            if not ids or ids[0] != self._begin:
                ids.insert(0, self._begin)
        return tuple(ids)

    def _literal_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    def _text_ids(self, text: str) -> list[int]:
        if not text:
            return []
        ids = list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        if any(i in self._control_ids for i in ids) and any(token in text for token in self._control):
            # A tokenizer that reads control tokens whatever it is told: cut each spelling in two, so that it stays text.
            for token in self._control:
                text = text.replace(token, token[:1] + "\u2060" + token[1:])
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids

    def _end_of_turn(self) -> tuple[int, ...]:
        tail = self._render([Message("user", "a"), Message("assistant", "b")])[-1]
        ids = self._literal_ids(tail)
        for position, token_id in enumerate(ids):
            if token_id in self._control_ids:
                return tuple(ids[: position + 1])
        ids = self._literal_ids(tail.rstrip())
        if not ids and self.tokenizer.eos_token_id is not None:
            ids = [int(self.tokenizer.eos_token_id)]
        if not ids:
            raise ModelError(
                "the chat template marks no end of the assistant's turn and the tokenizer has no end token"
            )
        return tuple(ids)

    def _begin_id(self) -> int | None:
        """The begin token, where the tokenizer itself puts one in front of a text; else None: none is invented."""
        begin = self.tokenizer.bos_token_id
        ids = list(self.tokenizer("a")["input_ids"])
        return int(begin) if begin is not None and ids and ids[0] == begin else None
