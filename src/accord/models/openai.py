"""A model behind an OpenAI-compatible server as a `Completer`: many requests at once, and every failure told apart from an answer.

What ends in `Completion.error`, with its cause, once the retries are spent: no connection, a reset, no whole answer in time, a
status that is no success, a body that is empty, cut off or no JSON, an answer without choices, message or text, an `error` field,
and `finish_reason` "error". What is wrong with the request itself (400, 401, 404, ...) is not tried again.

A null or empty text that ended normally is an answer: the model said nothing, and a scorer counts it as empty. A proxy may return
its own failure as the text of a normal answer; `error_in_text` says which texts are taken for that.

Left out: streaming, log-probabilities, tools.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx

from accord.errors import ModelError
from accord.models.asking import AT_ONCE, FailedError, authorisation, client_of, refuse_failure, said_of, tried
from accord.models.completer import Ability, Completion, Request
from accord.types import Conversation

TIMEOUT_S = 120.0
KEY_VARIABLE = "OPENAI_API_KEY"
_JSON = {"Content-Type": "application/json"}

_ERROR_TAG = re.compile(r"^\s*[\[<(]?\s*error\b\s*[\])>:]", re.IGNORECASE)
_INFRASTRUCTURE = re.compile(
    r"\b(?:time[ds]?[ -]?out|upstream|gateway|connection|rate[ -]?limit\w*|too many requests|server error|unavailable|overloaded"
    r"|quota|(?:http|status|code)[ :]*[45]\d\d)\b",
    re.IGNORECASE,
)
_LONGEST_ERROR = 200


class OpenAICompleter:
    """Answers from `{url}/chat/completions`. An instance belongs to one event loop.

    `vllm` says that the server is vLLM, which continues an answer that was begun (PREFILL). The API key is read from the
    environment variable `key_variable`, where it is set. `sleep` and `rng` serve the waits between tries.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        vllm: bool = False,
        timeout_s: float = TIMEOUT_S,
        key_variable: str = KEY_VARIABLE,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = f"openai:{name}@{url}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()
        self.abilities = frozenset({Ability.PREFILL}) if vllm else frozenset()
        self._model, self._url = name, f"{url.rstrip('/')}/chat/completions"
        self._timeout_s, self._rng, self._sleep = timeout_s, rng or random.Random(), sleep
        self._client = client_of(authorisation(key_variable))
        self._places = asyncio.Semaphore(AT_ONCE)

    async def complete(self, request: Request) -> Completion:
        """Return the answer, or the error that the last try ended in."""
        # Escaped to ASCII: half of a surrogate pair, which an attack may send, has no UTF-8 form.
        body = json.dumps(self._body(request)).encode()

        async def ask() -> Completion:
            return _read(await self._client.post(self._url, content=body, headers=_JSON))

        try:
            return await tried(ask, self._timeout_s, self._rng, self._sleep, self._places)
        except FailedError as error:
            return Completion("", error=str(error))

    async def logps(self, messages: Conversation, answers: Sequence[str]) -> tuple[float, ...]:
        """Refuse: the chat interface does not tell them.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"{self.name} does not tell log-probabilities; use a local model")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": m.role, "content": m.content, **m.extra} for m in request.messages]
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "seed": stable_seed(sampling.seed, request.key),
        }
        if request.prefill:
            messages.append({"role": "assistant", "content": request.prefill})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return body


def error_in_text(text: str) -> str:
    """Return the error that stands in place of an answer, or an empty string.

    A text counts as one only where it is a single line of at most 200 characters that opens with an error's mark ("[ERROR]",
    "Error:") *and* names something of the infrastructure (a timeout, the upstream, a gateway, a rate limit, an HTTP status). An
    answer that merely begins so, "[ERROR] I cannot do that" or a story about a timeout, stays an answer.
    """
    line = text.strip()
    if len(line) > _LONGEST_ERROR or "\n" in line or not _ERROR_TAG.search(line):
        return ""
    return line if _INFRASTRUCTURE.search(line) else ""


def _read(response: httpx.Response) -> Completion:
    """Return the answer in a response.

    Raises:
        FailedError: there is none.
    """
    refuse_failure(response)
    if not response.content.strip():
        raise FailedError("empty body")
    try:
        data = response.json()
    except (ValueError, RecursionError):
        raise FailedError("the body is not valid JSON") from None
    if not isinstance(data, dict):
        raise FailedError(f"the body is a JSON {type(data).__name__}, no object")
    if data.get("error"):
        raise FailedError(f"error field: {said_of(data['error'])}")
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise FailedError("the answer has no choices")
    return _answer(choices[0], data.get("usage"))


def _answer(choice: dict[str, Any], usage: Any) -> Completion:
    finish, message = choice.get("finish_reason"), choice.get("message")
    if choice.get("error"):
        raise FailedError(f"error field: {said_of(choice['error'])}")
    if not isinstance(message, dict):
        raise FailedError("the answer has no message")
    text = message.get("content")
    if finish == "error":
        raise FailedError(f"finish_reason error: {said_of(text)}")
    if "content" not in message or not (text is None or isinstance(text, str)):
        raise FailedError("the message has no text")
    if text is None and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    if finish == "content_filter" and not text:
        raise FailedError("withheld by the server's content filter", again=False)
    if text and (error := error_in_text(text)):
        raise FailedError(f"error as text: {error}")
    n_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return Completion(text or "", n_tokens if isinstance(n_tokens, int) else 0, truncated=finish == "length")


def stable_seed(seed: int, key: str) -> int:
    """Return the seed of one request: of (seed, key), within what servers take."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4], "big") >> 1
