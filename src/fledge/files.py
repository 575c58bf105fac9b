"""Writing files whole or not at all, and clearing up after a process that died while it wrote.

A file or folder is written under a temporary name that ends in ``.PID.part`` and renamed when it is complete and on the
disk; a name without that ending is therefore whole, also after a power cut.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fledge.errors import ResourceError

_PART = re.compile(r".+\.(\d+)\.part")


def write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path`` and rename, so that a half-written file never has the final name.

    Raises:
        ResourceError: the folder or disk refuses; what was there before is untouched.
    """
    with replacing(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN)."""
    write_bytes(path, json.dumps(value, indent=1, allow_nan=False).encode())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` for one file; when the block ends well, the file there becomes ``path``.

    Raises:
        ResourceError: the folder or disk refuses; what was there before is untouched.
    """
    part = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        sync(part)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise ResourceError(
            f"cannot write: {path}: {error.strerror or error}: check the folder and free space"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()


def temporary(path: Path) -> Path:
    """The temporary name of this process for ``path``."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def sync(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the file system can."""
    with suppress(OSError):  # some (network, Windows) cannot; an error of the disk shows with the files
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_orphans(folder: Path) -> list[Path]:
    """Remove what dead processes left half-written in ``folder`` (not below it), and name it."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _PART.fullmatch(path.name)
        if match is None or is_alive(int(match[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        found.append(path)
    return found


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has that number; True where it cannot be known."""
    if os.name != "posix":
        return True  # there, the signal 0 would end the process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def readable_size(count: int) -> str:
    """Bytes as a person reads them, such as ``12.3 MB``."""
    value = float(count)
    for unit in ("bytes", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        value /= 1000
    return f"{value:.3g} GB"
