"""What the readers share about folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.labels import LabelProblem
from fledge.data.raster import IMAGE_SUFFIXES, read_size
from fledge.errors import DataError


def image_files(folder: Path) -> list[Path]:
    """The image files directly in a folder, by name; hidden files and files of other kinds are passed over."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def unique_stems(images: Sequence[Path]) -> tuple[str, ...]:
    """The stems of image files, which name them in labels, results and submissions.

    Raises:
        DataError: two files share a stem.
    """
    stems = tuple(path.stem for path in images)
    repeated = [stem for stem, count in Counter(stems).items() if count > 1]
    if repeated:
        files = ", ".join(path.name for path in images if path.stem == repeated[0])
        raise DataError(f"{len(repeated)} image names occur twice: {images[0].parent}: {files}: keep one of each")
    return stems


def image_sizes(images: Sequence[Path]) -> tuple[NDArray[np.int32], list[LabelProblem]]:
    """(n, 2) height and width from the headers, and a problem for each image whose header cannot be read.

    Such an image gets a boundless size, so that its boxes are not called outside as well.
    """
    sizes = np.full((len(images), 2), np.iinfo(np.int32).max, dtype=np.int32)
    problems = []
    for index, path in enumerate(images):
        try:
            sizes[index] = read_size(path)
        except DataError as error:
            what, _, rest = str(error).partition(f": {path}: ")
            detail, _, remedy = rest.rpartition(": ")
            problems.append(LabelProblem(str(path), f"{what} ({detail})", remedy, "image"))
    return sizes, problems


def image_stamps(images: Sequence[Path]) -> NDArray[np.int64]:
    """(n, 2) size in bytes and time of change in nanoseconds of image files; zeros where there is none."""
    stamps = np.zeros((len(images), 2), dtype=np.int64)
    for index, path in enumerate(images):
        with suppress(OSError):
            state = path.stat()
            stamps[index] = state.st_size, state.st_mtime_ns
    return stamps
