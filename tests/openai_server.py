"""A real HTTP server on loopback that speaks like OpenAI's chat interface and fails in every way that it is told to.

    with Server(lambda request: Reply("Hello.")) as server:
        ...  # server.url is ".../v1"; server.requests is what came; server.most_at_once how many were open together

A script is a function of a `Received`; it returns a `Reply` or the name of a failure in `FAILURES`. It runs in the server's own
thread, one request at a time.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# What the completer is to make of each failure: a part of the cause.
FAILURES = {
    "http-500": "HTTP 500",
    "http-503-html": "HTTP 503",
    "rate-limit": "HTTP 429",
    "bad-request": "HTTP 400: no such model",
    "reset": "connection",
    "reset-in-body": "connection",
    "slow": "no whole answer within",
    "trickle": "no whole answer within",
    "empty": "empty body",
    "truncated-json": "not valid JSON",
    "malformed-json": "not valid JSON",
    "not-an-object": "JSON list",
    "error-field": "error field: upstream timeout",
    "finish-error": "finish_reason error: [ERROR] upstream timeout",
    "error-text": "error as text: [ERROR] upstream timeout",
    "no-choices": "no choices",
    "no-message": "no message",
    "no-content": "no text",
    "content-list": "no text",
}


@dataclass(frozen=True)
class Received:
    """One request: how manieth it was (from 1), its JSON, and its headers (lower case)."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def last(self) -> str:
        """The text of the last message."""
        return self.body["messages"][-1]["content"]


@dataclass(frozen=True)
class Reply:
    """A normal answer, after `after_s` seconds."""

    text: str | None
    finish: str = "stop"
    after_s: float = 0.0
    message: dict[str, Any] = field(default_factory=dict)


Script = Callable[[Received], Reply | str]


class Server:
    """The server, in a thread of its own from `with` to the end of the block."""

    def __init__(self, script: Script, owned_by: str = "test", retry_after: str = "0") -> None:
        self.script, self.owned_by, self.retry_after = script, owned_by, retry_after
        self.requests: list[Received] = []
        self.open = self.most_at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.url = ""

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=1024)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if head[0].startswith("GET"):
            writer.write(_response(200, json.dumps({"data": [{"id": "m", "owned_by": self.owned_by}]})))
            return True
        received = Received(len(self.requests) + 1, json.loads(body), headers)
        self.requests.append(received)
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        try:
            return await self._answer(self.script(received), writer)
        finally:
            self.open -= 1

    async def _answer(self, said: Reply | str, writer: asyncio.StreamWriter) -> bool:
        if isinstance(said, Reply):
            await asyncio.sleep(said.after_s)
            writer.write(_response(200, json.dumps(_completion(said))))
            await writer.drain()
            return True
        good = json.dumps(_completion(Reply("Never read.")))
        error = {"error": {"message": "upstream timeout", "code": 504}}
        match said:
            case "reset":
                _reset(writer)
            case "reset-in-body":
                writer.write(_response(200, good)[:-20])
                await writer.drain()
                _reset(writer)
            case "slow":
                await asyncio.sleep(60)
            case "trickle":
                writer.write(_response(200, good)[: -len(good)])
                for byte in good.encode():
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.2)
            case "truncated-json":
                writer.write(_response(200, good[:-20]))
            case _:
                status, text, headers = {
                    "http-500": (500, "", {}),
                    "http-503-html": (503, "<html>Service Unavailable</html>", {}),
                    "rate-limit": (429, json.dumps({"error": "slow down"}), {"Retry-After": self.retry_after}),
                    "bad-request": (400, json.dumps({"error": {"message": "no such model"}}), {}),
                    "empty": (200, "", {}),
                    "malformed-json": (200, "{'choices': [oops]}", {}),
                    "not-an-object": (200, "[1, 2]", {}),
                    "error-field": (200, json.dumps(error), {}),
                    "finish-error": (200, json.dumps(_completion(Reply("[ERROR] upstream timeout", "error"))), {}),
                    "error-text": (200, json.dumps(_completion(Reply("[ERROR] upstream timeout"))), {}),
                    "no-choices": (200, json.dumps({"id": "x"}), {}),
                    "no-message": (200, json.dumps({"choices": [{"index": 0}]}), {}),
                    "no-content": (200, json.dumps({"choices": [{"message": {"role": "assistant"}}]}), {}),
                    "content-list": (200, json.dumps({"choices": [{"message": {"content": [1]}}]}), {}),
                }[said]
                writer.write(_response(status, text, headers))
        await writer.drain()
        return said not in ("reset", "reset-in-body")


def _completion(reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.text, **reply.message}
    usage = {"prompt_tokens": 5, "completion_tokens": len((reply.text or "").split())}
    return {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}], "usage": usage}


def _response(status: int, text: str, headers: dict[str, str] | None = None) -> bytes:
    body = text.encode()
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side sees a reset, not an end."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
