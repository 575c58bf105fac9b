"""A lock file that names its owner, so that one that a dead process left can be told from one in use."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fledge.errors import ResourceError
from fledge.files import is_alive, temporary


def take(lock: Path) -> str:
    """Create the lock file, in place of one that a dead process left, and return what is in it.

    Raises:
        ResourceError: a living process, or one of another machine, holds it.
        OSError: the folder refuses.
    """
    own = json.dumps({"pid": os.getpid(), "started": _started(os.getpid()), "host": socket.gethostname()})
    for _ in range(10):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(own)
            return own
        except FileExistsError:
            other = _read(lock)
        if other is None:
            continue  # released just now
        owner = _owner(other)
        if owner is not None:
            raise ResourceError(
                f"another run is going on: {lock.parent}: process {owner['pid']} on {owner['host']} uses it: wait for "
                f"it, or use another folder (if there is no such process, remove {lock})"
            )
        _remove_stale(lock, other)
    raise ResourceError(f"cannot lock: {lock}: other runs start in this folder all the time: use another folder")


def release(lock: Path, own: str) -> bool:
    """Remove a lock that is still ours; False if it was removed or replaced meanwhile."""
    with suppress(OSError):
        if lock.read_text(encoding="utf-8") == own:
            lock.unlink()
            return True
    return False


def _owner(text: str) -> dict[str, Any] | None:
    """Who wrote a lock file, or None if that process is known to be dead."""
    try:
        owner = json.loads(text)
        pid, host, started = int(owner["pid"]), str(owner["host"]), str(owner["started"])
    except (ValueError, KeyError, TypeError):
        return None  # torn: its writer was killed, or the power failed
    here = host == socket.gethostname()
    if here and (not is_alive(pid) or _started(pid) != started):  # a number is used again some day
        return None
    return {"pid": pid, "host": host}


def _read(lock: Path) -> str | None:
    """The text of a lock file, or None if it is gone; one that is being written is waited for."""
    for _ in range(5):
        try:
            text = lock.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        if text.endswith("}"):
            return text
        time.sleep(0.1)
    return text


def _remove_stale(lock: Path, text: str) -> None:
    """Remove a stale lock, but not one that another run put in its place meanwhile."""
    aside = temporary(lock)
    with suppress(FileNotFoundError):
        lock.rename(aside)
        if _read(aside) != text:
            aside.rename(lock)
        aside.unlink(missing_ok=True)


def _started(pid: int) -> str:
    """When a process of this machine started, in ticks since the machine did; empty if it ended or cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""
