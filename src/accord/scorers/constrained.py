"""A local judge that writes its verdict, under a grammar that lets it write nothing else: it cannot fail to parse.

The grammar bounds the reason to `MAX_REASON` plain characters, so that the whole reply has a known greatest length and is never
cut. Needs xgrammar (Dong et al. 2024, arXiv 2411.15100). Where only the verdict is wanted, `rubric` is several times faster.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from accord.errors import DataError, ModelError
from accord.models.chat import ChatFormat
from accord.models.load import LoadedModel, window
from accord.policy.rubric import NO, YES, Rubric, rubric
from accord.policy.schema import Policy
from accord.scorers.blank import blank
from accord.scorers.label_tokens import ready
from accord.scorers.quoting import MARKED, quoted
from accord.scorers.rubric import TOO_LONG
from accord.types import Message, Outcome, Score, Transcript

INSTALL_XGRAMMAR = "pip install --no-deps xgrammar apache-tvm-ffi"
MAX_REASON = 160
# Printable ASCII without the quotation mark and the backslash: text that JSON takes as it is, a byte a character.
_TEXT = f"[ !#-[\\]-~]{{1,{MAX_REASON}}}"
_GRAMMAR = rf'root ::= "{{\"reason\": \"" {_TEXT} "\", \"verdict\": \"" ("{YES}" | "{NO}") "\"}}"'
# A token is at least a byte.
_MAX_NEW_TOKENS = MAX_REASON + len('{"reason": "", "verdict": "Yes"}') + 1
_ROWS = 16


class ConstrainedJudge:
    """Judges by the rubric of each transcript's clause, in words: a reason of one line, then the verdict.

    Raises:
        ModelError: xgrammar is not installed; the message holds the install line.
        PolicyError: a transcript names a clause that the policy lacks.
    """

    by_rubric = True

    def __init__(self, loaded: LoadedModel, policy: Policy) -> None:
        self._loaded, self._policy = loaded, policy
        self._chat = ChatFormat(loaded.tokenizer)
        self._grammar = _compiled(loaded)
        self.name = f"constrained:{loaded.name}"

    @property
    def config_hash(self) -> str:
        """A hash of model, template, policy and grammar."""
        template = str(getattr(self._loaded.tokenizer, "chat_template", ""))
        parts = [
            self._loaded.fingerprint,
            str(self._loaded.model.dtype),
            template,
            self._policy.hash,
            _GRAMMAR,
            _asked("", ""),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def score_all(self, transcripts: Sequence[Transcript]) -> list[Score]:
        """Return a score a transcript; `evidence` is the judge's reason."""
        scores: list[Score | None] = [blank(t, self.name) for t in transcripts]
        prompts: dict[int, tuple[int, ...]] = {}
        rubrics: dict[int, Rubric] = {}
        for i, transcript in enumerate(transcripts):
            if scores[i] is not None:
                continue
            rubrics[i] = rubric(self._policy, transcript.clause, transcript.kind)
            ids = self._ids(rubrics[i], transcript)
            if ids is None or len(ids) + _MAX_NEW_TOKENS > window(self._loaded.model):
                scores[i] = Score(Outcome.UNSCORED, self.name, TOO_LONG)
            else:
                prompts[i] = ids
        order = sorted(prompts, key=lambda i: len(prompts[i]))
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            for i, said in zip(rows, self._write([prompts[i] for i in rows]), strict=True):
                scores[i] = self._score(rubrics[i], said)
        return [score for score in scores if score is not None]

    def _ids(self, asked: Rubric, transcript: Transcript) -> tuple[int, ...] | None:
        try:
            return self._chat.prompt([Message("user", _asked(asked.text, quoted(transcript)[0]))])
        except DataError:
            return None

    def _score(self, asked: Rubric, said: str) -> Score:
        reply = json.loads(said)
        yes = reply["verdict"] == YES
        cited = f"clause '{asked.clause}'" if asked.clause else "the policy"
        return Score(
            asked.if_yes if yes else asked.if_no, self.name, f"{reply['verdict']} by {cited}", reply["reason"].strip()
        )

    @torch.inference_mode()
    def _write(self, prompts: Sequence[tuple[int, ...]]) -> list[str]:
        hf: Any = importlib.import_module("xgrammar.contrib.hf")
        model: Any = self._loaded.model
        width, pad = max(map(len, prompts)), min(self._chat.end_ids)
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=self._loaded.device)
        real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._loaded.device)
        with ready(self._loaded):
            output = model.generate(
                input_ids=ids,
                attention_mask=real,
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
                eos_token_id=sorted(self._chat.end_ids),
                pad_token_id=pad,
                logits_processor=[hf.LogitsProcessor(self._grammar)],
            )
        return [self._up_to_end(row) for row in output[:, width:].tolist()]

    def _up_to_end(self, ids: Sequence[int]) -> str:
        end = next((n for n, i in enumerate(ids) if i in self._chat.end_ids), len(ids))
        return self._chat.decode(ids[:end])


def _asked(rubric_text: str, judged: str) -> str:
    form = f'Reply with JSON: {{"reason": "one sentence", "verdict": "{YES}" or "{NO}"}}.'
    return "\n".join([rubric_text, MARKED, judged, form])


def _compiled(loaded: LoadedModel) -> Any:
    try:
        xgrammar: Any = importlib.import_module("xgrammar")
    except ImportError as error:
        raise ModelError(
            f"constrained decoding needs xgrammar, which is not installed; run: {INSTALL_XGRAMMAR}"
        ) from error
    ends = sorted(ChatFormat(loaded.tokenizer).end_ids)
    info = xgrammar.TokenizerInfo.from_huggingface(
        loaded.tokenizer, vocab_size=loaded.model.config.get_text_config().vocab_size, stop_token_ids=ends
    )
    return xgrammar.GrammarCompiler(info).compile_grammar(_GRAMMAR)
