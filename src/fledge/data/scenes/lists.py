"""Splits stated as lists of images, one a line, as they are published beside datasets without split folders."""

from __future__ import annotations

from pathlib import Path

from fledge.data.labels import LabelProblem, refuse
from fledge.data.raster import IMAGE_SUFFIXES
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.errors import DataError


def pick_listed(dataset: SceneDataset, path: Path, split: str | None = None) -> SceneDataset:
    """The images that a list names, in its order.

    A line is an image's name (``Forest_1.jpg``) or path (``Forest/Forest_1.jpg``). Its suffix does not matter, since
    lists made for one copy serve another (EuroSAT's name ``.jpg`` files also for its ``.tif`` files). A number after
    it, a label by another tool's count, is passed over: the class is that of the folder.

    Args:
        dataset: all images.
        path: the list.
        split: its name; by default that of the file.

    Raises:
        DataError: the list cannot be read or is empty, or names images that are not there, stand in several folders, or
            were named before (each with ``file:line``).
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read list: {path}: {error}: save it as UTF-8 text") from error
    places = _places(dataset)
    chosen: dict[int, int] = {}
    problems = []
    for number, line in enumerate(map(str.strip, lines), start=1):
        found = places.get(_key(line)) or places.get(_key(line.rpartition(" ")[0])) if line else None
        what = ""
        if line and not found:
            what = f"no image {line[:64]!r}"
        elif found and len(found) > 1:
            what = f"{line[:64]!r} is in several folders"
        elif found and found[0] in chosen:
            what = f"{line[:64]!r} is listed in line {chosen[found[0]]} already"
        elif found:
            chosen[found[0]] = number
        if what:
            problems.append(LabelProblem(f"{path}:{number}", what, "correct the list", "list"))
    refuse(problems, str(dataset.root))
    if not chosen:
        raise DataError(f"no images: {path}: the list is empty: name one image a line")
    return dataset.subset(list(chosen), path.stem if split is None else split)


def _places(dataset: SceneDataset) -> dict[str, list[int]]:
    """From the name and from each path of an image, without suffix, to the images called so."""
    places: dict[str, list[int]] = {}
    for image, name in enumerate(dataset.names):
        parts = _key(name).split("/")
        for start in range(len(parts)):
            places.setdefault("/".join(parts[start:]), []).append(image)
    return places


def _key(name: str) -> str:
    path = name.replace("\\", "/")
    suffix = Path(path).suffix
    return path[: -len(suffix)] if suffix.lower() in IMAGE_SUFFIXES else path
