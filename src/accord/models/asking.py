"""One request to a server, tried again where that is worth it."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx

T = TypeVar("T")

AT_ONCE = 256
RETRIES = 5
FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_WORTH_RETRYING = (408, 409, 425, 429)
_SHOWN = 160


class FailedError(Exception):
    """One request failed. `again`: whether it is worth trying again; `wait_s`: how long the server asks to wait."""

    def __init__(self, cause: str, again: bool = True, wait_s: float | None = None) -> None:
        super().__init__(cause)
        self.again, self.wait_s = again, wait_s


async def tried(
    ask: Callable[[], Awaitable[T]],
    timeout_s: float,
    rng: random.Random,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    places: AbstractAsyncContextManager[Any] | None = None,
    patient: bool = True,
) -> T:
    """Return what `ask` does, which may take `timeout_s` each time it is tried, from when it has one of the `places`.

    What took too long is tried again only where one is `patient`.

    Raises:
        FailedError: the last try's.
    """
    for n in range(RETRIES + 1):
        try:
            async with places or nullcontext(), asyncio.timeout(timeout_s):
                return await ask()
        except TimeoutError:
            failed = FailedError(f"no whole answer within {timeout_s:g} s", again=patient)
        except httpx.InvalidURL as error:
            failed = FailedError(str(error), again=False)
        except httpx.HTTPError as error:
            failed = FailedError(_cause(error), again=not isinstance(error, httpx.UnsupportedProtocol))
        except FailedError as error:
            failed = error
        if not failed.again or n == RETRIES:
            break
        await sleep(_wait_s(n, failed.wait_s, rng))
    raise failed


def refuse_failure(response: httpx.Response) -> None:
    """Refuse a response whose status is no success.

    Raises:
        FailedError: with the server's own words.
    """
    status = response.status_code
    if not response.is_success:
        again = status >= 500 or status in _WORTH_RETRYING
        raise FailedError(f"HTTP {status}{_said(response)}", again, _retry_after_s(response))


def said_of(error: Any) -> str:
    """Return the message of an error field, on one line."""
    told = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(told).split())[:_SHOWN]


def client_of(headers: Mapping[str, str]) -> httpx.AsyncClient:
    """Return a client with room for `AT_ONCE` connections. Its requests have deadlines of their own: a body that trickles never
    exceeds a timeout by the read.
    """
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    return httpx.AsyncClient(headers=dict(headers), timeout=None, limits=limits, verify=_trusted())


@functools.cache
def _trusted() -> ssl.SSLContext:
    # Reading the certificates takes longer than a request.
    return httpx.create_ssl_context()


def authorisation(variable: str) -> dict[str, str]:
    """Return the headers that carry the API key; none where the environment has no such variable."""
    key = os.environ.get(variable, "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _wait_s(n: int, asked_s: float | None, rng: random.Random) -> float:
    """Return the wait before the next try: what the server asked for, else exponential with full jitter."""
    spread = rng.uniform(0, min(_LONGEST_WAIT_S, FIRST_WAIT_S * 2**n))
    # Those who were sent away together must not come back together.
    return spread if asked_s is None else min(asked_s, _LONGEST_WAIT_S) + spread


def _said(response: httpx.Response) -> str:
    """Return ": message" where an error's body has one."""
    try:
        data = response.json()
    except (ValueError, RecursionError):
        return ""
    told = [data[name] for name in ("error", "detail", "message") if data.get(name)] if isinstance(data, dict) else []
    return f": {said_of(told[0])}" if told else ""


def _cause(error: httpx.HTTPError) -> str:
    """Name a failed exchange; httpx's message is often empty, and the operating system's differs between machines."""
    causes: dict[type[httpx.HTTPError], str] = {
        httpx.ConnectError: "no connection",
        httpx.ReadError: "connection reset",
        httpx.WriteError: "connection reset",
        httpx.CloseError: "connection reset",
        httpx.RemoteProtocolError: "connection closed before the answer was whole",
        httpx.DecodingError: "the body cannot be decoded",
    }
    return causes.get(type(error), type(error).__name__)


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return how long the server asks to wait: seconds, or an HTTP date (RFC 9110, section 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
