"""Images below a folder, however deep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fledge.data.raster import IMAGE_SUFFIXES

_SUFFIXES = tuple(IMAGE_SUFFIXES)


class Folder(NamedTuple):
    """One folder: its path below the root with slashes ("" for the root), its images by name, and its sub-folders."""

    path: str
    images: tuple[str, ...]
    folders: tuple[str, ...]

    def paths(self) -> Iterator[str]:
        """The images with their path below the root."""
        return (f"{self.path}/{name}" if self.path else name for name in self.images)


def walk(root: Path) -> Iterator[Folder]:
    """All folders from ``root`` on, in the order of their names' characters; hidden ones are passed over.

    Links to folders are followed, each folder once, so that a link upwards does no harm.
    """
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        if real in seen:
            continue
        seen.add(real)
        images = (n for n in files if n.lower().endswith(_SUFFIXES) and not n.startswith("."))
        path = Path(here).relative_to(root).as_posix()
        yield Folder("" if path == "." else path, tuple(sorted(images)), tuple(folders))
