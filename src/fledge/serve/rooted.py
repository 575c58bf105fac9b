"""Files that a client may name: those below one folder, and no way out of it."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from fledge.serve.problems import Problem

MAX_LENGTH = 1024


def file_under(root: Path, name: str) -> Path:
    """The regular file ``name`` below ``root``, both resolved.

    Args:
        root: the allowed folder.
        name: relative to it, with ``/`` between parts, as the client wrote it.

    Raises:
        Problem: 403 for a name that is no plain relative path or that leads outside through a link (whether or not
            anything is there); 404 for one that leads to no file.
    """
    if not _is_plain(name):
        raise Problem(403, "path refused: it is not below the root: give a relative path without `..`")
    home = root.resolve()
    try:
        file = (home / name).resolve()  # follows links, whatever exists of them
        inside = file.is_relative_to(home)
        found = inside and stat.S_ISREG(file.stat().st_mode)
    except (OSError, RuntimeError, ValueError):  # nothing there, no right to look, a ring of links
        inside, found = True, False
    if not inside:
        raise Problem(403, "path refused: it leads out of the root: give a file inside")
    if not found:
        raise Problem(404, "no such file: the root has no file of this name: check the path")
    return file


def _is_plain(name: str) -> bool:
    """Whether a path is relative, on any system, and climbs nowhere."""
    if not name or len(name) > MAX_LENGTH or not name.isprintable() or "\\" in name or ":" in name:
        return False
    parts = PurePosixPath(name)
    return not parts.is_absolute() and not PureWindowsPath(name).is_absolute() and ".." not in parts.parts
