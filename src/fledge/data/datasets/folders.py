"""What the readers share about folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def unique_names(images: Sequence[Path], names: Sequence[str] = ()) -> tuple[str, ...]:
    """What image files are called in labels, results and submissions: ``names``, by default their stems.

    Raises:
        DataError: two files share a name.
    """
    chosen = tuple(names) or tuple(path.stem for path in images)
    repeated = [name for name, count in Counter(chosen).items() if count > 1]
    if repeated:
        files = ", ".join(path.name for path, name in zip(images, chosen, strict=True) if name == repeated[0])
        raise DataError(f"{len(repeated)} image names occur twice: {images[0].parent}: {files}: keep one of each")
    return chosen


def images_by_stem(folders: Sequence[Path]) -> dict[str, Path]:
    """The image files of some folders by their stems; of several folders the first that has one counts.

    Raises:
        DataError: two files of one folder share a stem.
    """
    for folder in folders:
        unique_names(image_files(folder))
    return {path.stem: path for folder in reversed(folders) for path in image_files(folder)}


def split_lists(folders: Sequence[Path]) -> dict[str, Path]:
    """From split to its list of images, a text file; of several folders the first that has one counts."""
    return {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.txt"))}


def list_names(lists: Iterable[str]) -> tuple[str, ...]:
    """The splits that lists name; ``trainval`` beside ``train`` and ``val`` is left out: it repeats them."""
    names = set(lists)
    return tuple(sorted(names - ({"trainval"} if {"train", "val"} <= names else set())))


def listed_images(path: Path, images: Mapping[str, Path]) -> tuple[dict[str, Path], list[LabelProblem]]:
    """The image files that a list names, by name, one name a line, with or without the suffix of the file.

    Returns:
        The images in the order of the list, and a problem for each name that is unknown or repeated.

    Raises:
        DataError: the list cannot be read or is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read list: {path}: {error.strerror if isinstance(error, OSError) else error.reason}: "
            "save it as UTF-8 text"
        ) from error
    chosen: dict[str, Path] = {}
    problems = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        name = line[: -len(Path(line).suffix)] if Path(line).suffix.lower() in IMAGE_SUFFIXES else line
        if name and (name in chosen or name not in images):
            what = f"{line[:64]!r} {'is listed twice' if name in chosen else 'has no image file'}"
            problems.append(LabelProblem(f"{path}:{number}", what, "correct the list", "list"))
        elif name:
            chosen[name] = images[name]
    if not chosen and not problems:
        raise DataError(f"no images: {path}: the list is empty: name one image a line")
    return chosen, problems


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
