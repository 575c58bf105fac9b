"""Reading while computing."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")


class _End(Generic[T]):
    """After the last item: nothing, or the error that ended them."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Callable[[], Iterator[T]], depth: int = 2) -> Generator[T]:
    """The items of ``items()``, made in a thread that is up to ``depth`` of them ahead.

    An error in it is raised here; when the caller stops, so does the thread, after the item it is making.
    """
    ready: Queue[T | _End[T]] = Queue(depth)
    stopped = Event()

    def put(item: T | _End[T]) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.2)
            except Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in items():
                if not put(item):
                    return
            put(_End())
        except BaseException as error:
            put(_End(error))

    thread = Thread(target=fill, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            item = ready.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stopped.set()
        thread.join()
