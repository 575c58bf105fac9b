"""The one thread that computes, and who may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Event
from typing import TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from fledge.serve.limits import Limits
from fledge.serve.problems import Problem

T = TypeVar("T")
Check = Callable[[], None]


class Abandoned(Exception):  # noqa: N818 (nobody catches it as an error)
    """Nobody waits for the result any more."""


class Worker:
    """Computes one request after another, and turns away those that are too many or take too long.

    A thread cannot be stopped from outside: a job gets a function to call between its parts, which raises
    ``Abandoned`` once its client is gone or its time is over.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, "fledge-serve")
        self._admitted = 0

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """A place for one request, from its first byte to its answer.

        Raises:
            Problem: 429 if all places are taken, 503 when its time is over.
        """
        if self._admitted >= self._limits.concurrency:
            raise Problem(429, f"busy: {self._admitted} requests are in work: try again later", retry_after=1)
        self._admitted += 1
        try:
            async with asyncio.timeout(self._limits.timeout):
                yield
        except TimeoutError:
            seconds = f"{self._limits.timeout:g} s"
            raise Problem(503, f"too slow: no result within {seconds}: send a smaller image", retry_after=1) from None
        finally:
            self._admitted -= 1

    async def run(self, request: Request, job: Callable[[Check], T]) -> T:
        """``job``'s result, computed when its turn comes.

        Raises:
            ClientDisconnect: the client went away first.
        """
        stop = Event()

        def check() -> None:
            if stop.is_set():
                raise Abandoned

        result = asyncio.get_running_loop().run_in_executor(self._thread, job, check)
        gone = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait((result, gone), return_when=asyncio.FIRST_COMPLETED)
            if not result.done():
                raise ClientDisconnect
            return result.result()
        finally:
            stop.set()
            gone.cancel()
            result.cancel()

    def later(self, what: Callable[[], None]) -> None:
        """Call a function when the jobs that were given until now have ended."""
        try:
            turn = self._thread.submit(what)
        except RuntimeError:  # closed: nothing is under way but, at most, a job that nobody waits for
            what()
        else:
            turn.add_done_callback(lambda turn: what() if turn.cancelled() else None)

    def close(self) -> None:
        """Take no more jobs; what waits is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


async def _gone(request: Request) -> None:
    """Return when the client of a request, whose body was read, has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
