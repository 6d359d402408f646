"""From a name to what answers: `openai:NAME@URL` is a server, all else a model in this process."""

from __future__ import annotations

import re

import httpx

from accord.errors import ModelError
from accord.models.asking import authorisation
from accord.models.completer import Completer
from accord.models.openai import KEY_VARIABLE, OpenAICompleter
from accord.models.precision import Precision

_SERVER = re.compile(r"openai:(?P<name>.+?)@(?P<url>https?://\S+)")
_PROBE_S = 5.0


def open_completer(name: str, precision: Precision = "auto") -> Completer:
    """Return the completer that a name stands for; close it when done.

    A server is asked once what it is. One that does not answer is opened all the same: each request then says why it failed.

    Raises:
        ModelError: the name is no `openai:NAME@URL`, or nothing by that name can be loaded.
    """
    if not name.startswith("openai:"):
        from accord.models.load import load_model
        from accord.models.local import LocalCompleter

        return LocalCompleter(load_model(name, precision))
    model, url = server_at(name)
    return OpenAICompleter(model, url, vllm=_is_vllm(url))


def server_at(name: str) -> tuple[str, str]:
    """Return the model's name and the address of `openai:NAME@URL`.

    Raises:
        ModelError: it is none.
    """
    match = _SERVER.fullmatch(name)
    if not match:
        raise ModelError(
            f"'{name}' names no server; expected openai:NAME@URL, such as openai:llama@http://localhost:8000/v1"
        )
    return match["name"], match["url"].rstrip("/")


def _is_vllm(url: str) -> bool:
    """Whether the server says of its models that vLLM owns them."""
    try:
        listed = httpx.get(f"{url}/models", headers=authorisation(KEY_VARIABLE), timeout=_PROBE_S).json()["data"]
        return any(model.get("owned_by") == "vllm" for model in listed)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return False
