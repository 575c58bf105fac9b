"""Progress of long work: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Advance = Callable[[int, str], None]
console = Console(stderr=True)


def say(text: str) -> None:
    """A line for the user, beside the results on stdout; never wrapped, coloured or read as markup."""
    if _speaks():
        console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Show how far ``title`` is. Call the given function with the number of finished steps and a short note."""
    if not console.is_terminal or not _speaks():
        yield _lines(title, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield advance


def _speaks() -> bool:
    """Whether this is the one of torchrun's processes that talks to the user; alone it is."""
    return os.environ.get("RANK", "0") == "0"


def _lines(title: str, total: int, every: float = 15.0) -> Advance:
    """A line at the end and every ``every`` seconds."""
    start = last = time.monotonic()

    def advance(done: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last < every:
            return
        last = now
        left = (now - start) / max(done, 1) * (total - done)
        say(f"{title}: {done}/{total}, {left:.0f} s left {note}".rstrip())

    return advance
