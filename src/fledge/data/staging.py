"""Folders that get their final name only when they are complete: work goes on in ``NAME.part`` beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fledge.errors import ResourceError, UsageError
from fledge.files import write_json

_PLAN = "plan.json"


def is_made(out: Path, plan: dict[str, Any]) -> bool:
    """Whether a folder is complete and was made by the same plan."""
    return bool(_held(out) == _as_json(plan))


@contextmanager
def staged(out: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """A folder to fill, which becomes ``out`` when the ``with`` block ends without an error.

    After an interruption the same plan gets the same folder again, with what it held: write each file under another
    name and rename it (``fledge.files``), and skip those that are there. The plan stays in the finished folder, as
    ``plan.json``.

    Args:
        out: the folder to make. An empty one may be there.
        plan: what determines the result, as JSON.

    Raises:
        UsageError: ``out`` exists and is not empty, or the folder beside it was left by another plan.
        ResourceError: the disk refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"output exists: {out}: name another folder, or remove this one")
    part = out.with_name(f"{out.name}.part")
    _claim(part, _as_json(plan))
    yield part
    try:
        for leftover in part.rglob("*.part"):
            leftover.unlink()
        if hasattr(os, "sync"):
            os.sync()  # once, as waiting for the disk after each of many small files takes most of the time
        if out.exists():
            out.rmdir()
        part.rename(out)
    except OSError as error:
        raise ResourceError(f"cannot finish: {out}: {error.strerror}: rename {part} by hand") from error


def _claim(part: Path, plan: Any) -> None:
    """Make the folder, or take up that of an interrupted run of the same plan."""
    if part.exists():
        if _held(part) != plan:
            raise UsageError(
                f"unfinished work of another command or other data: {part}: repeat that command, or remove the folder"
            )
        return
    write_json(part / _PLAN, plan)


def _held(folder: Path) -> Any:
    """The plan in a folder; None if there is none."""
    with suppress(OSError, ValueError, RecursionError):
        return json.loads((folder / _PLAN).read_text(encoding="utf-8"))
    return None


def _as_json(plan: dict[str, Any]) -> Any:
    """The plan as it reads after it was written."""
    return json.loads(json.dumps(plan))


def place(path: Path, data: bytes) -> None:
    """Write a file of a staged folder under another name and rename it; a power cut may leave it empty, not in part.

    Raises:
        ResourceError: the disk refuses.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise ResourceError(f"cannot write: {path}: {error.strerror}: check the folder and free space") from error


def placed(path: Path) -> bool:
    """Whether a file of a staged folder is complete."""
    return path.is_file() and path.stat().st_size > 0


def copy_file(source: Path, target: Path, link: bool) -> None:
    """A copy of a file, byte for byte, or a symbolic link to it; one that is there already is left.

    Raises:
        ResourceError: a file that cannot be read, or a disk that is full or knows no links.
    """
    if placed(target):
        return
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        if link:
            part.symlink_to(source.resolve())
        else:
            shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        word = "link" if link else "copy"
        raise ResourceError(f"cannot {word}: {source} to {target}: {error.strerror}: check space and rights") from error
