"""An Accord model as a model of Inspect: many samples at once are sampled in one batch.

    inspect eval task.py --model accord/starter
    inspect eval task.py --model accord/RUN_FOLDER -M precision=fp32

Without a temperature the likeliest token is taken. What cannot be honoured (nucleus sampling, penalties, several choices,
log-probabilities, a response schema) is refused, never ignored.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from typing import Any, get_args

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelInfo,
    ModelOutput,
    ModelUsage,
    StopReason,
    set_model_info,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from accord.errors import DataError, ModelError, SettingsError, nearest
from accord.evals.inspect_messages import Asked, answer_of, asked_of
from accord.models.completer import Request
from accord.models.load import load_model, window
from accord.models.local import MAX_ROWS, LocalCompleter
from accord.models.precision import Precision
from accord.models.sampling import Sampling

DEFAULT_MAX_TOKENS = 512
# Another value of these would change what is sampled, and cannot be had.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "top_p": (1, 1.0), "top_k": (0, -1), "frequency_penalty": (0, 0.0), "presence_penalty": (0, 0.0), "num_choices": (1,),
    "best_of": (1,), "logit_bias": ({},), "logprobs": (False,), "top_logprobs": (0,), "prompt_logprobs": (0,),
    "response_schema": (),
}  # fmt: skip


class AccordModel(ModelAPI):
    """A model by hub id, local folder, run folder or 'starter'. Options (`-M`): `precision`."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 (as Inspect's own)
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        precision = model_args.pop("precision", "auto")
        if model_args:
            unknown = ", ".join(f"'{name}'{nearest(name, ['precision'])}" for name in model_args)
            raise SettingsError(f"an Accord model has no option {unknown}; it has: precision")
        if precision not in get_args(Precision):
            raise SettingsError(f"precision is '{precision}'; expected one of {', '.join(get_args(Precision))}")
        self.completer = LocalCompleter(load_model(model_name, precision))
        # Inspect would load the model a second time, by its name alone, to look this up.
        known = ModelInfo(context_length=window(self.completer.white_box.loaded.model))
        set_model_info(f"accord/{model_name}", known)
        self.times_asked: Counter[str] = Counter()

    def max_tokens(self) -> int:
        """How long an answer may be where neither task nor user says so."""
        return DEFAULT_MAX_TOKENS

    def max_connections(self) -> int:
        """As many samples at once as are sampled in one batch."""
        return MAX_ROWS

    async def count_text_tokens(self, text: str) -> int:
        """Count by the model's own tokenizer; Inspect's default fetches another model's from the network."""
        return len(self.completer.white_box.chat.opening(text))

    async def aclose(self) -> None:
        """Give the model's memory back."""
        await self.completer.close()

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Return the model's answer; an answer that failed raises, so that its sample is an error and not an empty answer.

        Raises:
            SettingsError: the configuration asks for what cannot be had.
            DataError: the messages hold something else than text, or fill the window.
            ModelError: the answer failed.
        """
        _check(config)
        asked = asked_of(input, tools, tool_choice)
        chat, model = self.completer.white_box.chat, self.completer.white_box.loaded.model
        n_input = len(chat.prompt(asked.messages)) + len(chat.opening(asked.prefill))
        wanted = config.max_tokens or DEFAULT_MAX_TOKENS
        n_new = min(wanted, window(model) - n_input)
        if n_new < 1:
            raise DataError(f"{n_input} tokens fill the model's window of {window(model)}")
        sampling = Sampling(n_new, config.temperature or 0.0, config.seed or 0)
        start = time.monotonic()
        completion = await self.completer.complete(Request(asked.messages, sampling, self._key(asked), asked.prefill))
        if completion.error:
            raise ModelError(f"'{self.model_name}' gave no answer: {completion.error}")
        text, cut = _before_stop(completion.text, config.stop_seqs or [])
        message = answer_of(text, tools, sum(len(getattr(m, "tool_calls", None) or []) for m in input))
        message.model = self.model_name
        stop: StopReason = "stop"
        if message.tool_calls:
            stop = "tool_calls"
        elif completion.truncated and not cut:
            stop = "max_tokens" if n_new == wanted else "model_length"
        usage = ModelUsage(
            input_tokens=n_input, output_tokens=completion.n_tokens, total_tokens=n_input + completion.n_tokens
        )
        choice = ChatCompletionChoice(message=message, stop_reason=stop)
        return ModelOutput(model=self.model_name, choices=[choice], usage=usage, time=time.monotonic() - start)

    def _key(self, asked: Asked) -> str:
        """Name a request by its words and by how many times they were asked: the epochs of one sample must not draw alike."""
        words = "\x1e".join([*(f"{m.role}\x1f{m.content}" for m in asked.messages), asked.prefill])
        digest = hashlib.sha256(words.encode()).hexdigest()
        self.times_asked[digest] += 1
        return f"{digest}/{self.times_asked[digest]}"


def _check(config: GenerateConfig) -> None:
    asked = {name: getattr(config, name, None) for name in NEUTRAL}
    refused = [f"{name}={value!r}" for name, value in asked.items() if value is not None and value not in NEUTRAL[name]]
    if refused:
        raise SettingsError(f"an Accord model cannot sample with {', '.join(refused)}; leave it out")


def _before_stop(text: str, stops: list[str]) -> tuple[str, bool]:
    """Return a text up to the first of the stop sequences, and whether one came."""
    first = min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=-1)
    return (text[:first], True) if first >= 0 else (text, False)
