"""Many coroutines that each want one row of work done, and one function that does rows by the batch.

An attack, a judge or a server asks for one answer at a time; a local model is several times faster with 64 in flight. What is
asked for while the function runs is done together in its next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Coalescer(Generic[In, Out]):
    """Collects what is awaited and runs it by the batch, in one thread of its own; the event loop stays free.

    A batch begins once no more rows arrive without waiting for its results. An exception of the function is raised to each
    caller whose row was in that call. An instance belongs to one event loop.
    """

    def __init__(self, run: Callable[[Sequence[In]], Sequence[Out]], max_rows: int) -> None:
        self._run, self._max_rows = run, max_rows
        self._waiting: list[tuple[In, asyncio.Future[Out]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, row: In) -> Out:
        """Return what the function returns for this row."""
        done: asyncio.Future[Out] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await done

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._until_quiet()
            batch, self._waiting = self._waiting[: self._max_rows], self._waiting[self._max_rows :]
            batch = [(row, done) for row, done in batch if not done.cancelled()]
            if not batch:
                continue
            try:
                results = await loop.run_in_executor(self._thread, self._run, [row for row, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.cancelled():
                        done.set_exception(error)
                continue
            for (_, done), result in zip(batch, results, strict=True):
                if not done.cancelled():
                    done.set_result(result)

    async def _until_quiet(self) -> None:
        """Let every task that can run do so: each may add a row."""
        before = -1
        quiet = 0
        while quiet < 3 and len(self._waiting) < self._max_rows:
            quiet = quiet + 1 if len(self._waiting) == before else 0
            before = len(self._waiting)
            await asyncio.sleep(0)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=True)
