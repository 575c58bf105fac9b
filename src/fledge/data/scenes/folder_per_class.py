"""Scene classification as nearly all datasets have it: a folder for each class, full of its images.

EuroSAT, NWPU-RESISC45, RSSCN7, UC Merced, AID, the training part of Million-AID (whose classes are the innermost of two
or three levels of folders), ImageNet, and datasets of one's own. Labels count the folders in the order of their names'
characters, as all tools do; the names are kept, since two copies of a dataset may differ by one underscore.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fledge.data.labels import class_index, class_key
from fledge.data.raster import COLOUR, PixelRule
from fledge.data.scenes.scene_dataset import SceneDataset
from fledge.data.scenes.walk import Folder, walk
from fledge.data.splits import WHOLE
from fledge.errors import DataError

TREE = """\
Scene classes:  ROOT/CLASS/NAME.jpg                 a folder for each class
                or ROOT/SPLIT/CLASS/NAME.jpg        SPLIT being train, val, valid, validation or test
                one folder around the others does not matter"""

_SPLITS = ("train", "val", "valid", "validation", "test")


def scene_splits(root: Path) -> tuple[str, ...]:
    """The splits under a root, ("all",) for one without splits; none means that it has no folders of images."""
    return tuple(_split_folders(root))


def open_scenes(
    root: Path, split: str = WHOLE, classes: Sequence[str] | None = None, pixels: PixelRule = COLOUR
) -> SceneDataset:
    """One split of a dataset with a folder for each class.

    Args:
        root: the dataset's folder.
        split: one of ``scene_splits``.
        classes: the class names in label order, such as the catalogue's or a checkpoint's; matched without regard to
            case, spaces, hyphens and underscores. Without it they are the folders of all splits together.
        pixels: how the images are read, such as ``PixelRule((4, 3, 2), (0, 2750))`` for EuroSAT's 13 bands.

    Raises:
        DataError: no such folder or split (the expected tree is shown), no images, images in a folder that is no class
            or together with further folders of images, or two folders of one name.
    """
    folders = _split_folders(root)
    if split not in folders:
        found = f"choose one of {', '.join(folders)}, or " if folders else ""
        raise DataError(f"no split {split!r}: {root}: {found}make it look like this:\n{TREE}")
    mine = _class_folders(folders[split])
    if classes is None:
        everywhere = {name for folder in folders.values() for name in _class_folders(folder)}
        classes = sorted(everywhere)
    index = class_index(classes, str(root))
    unknown = sorted(name for name in mine if class_key(name) not in index)
    if unknown:
        raise DataError(
            f"no class {', '.join(unknown)}: {folders[split]}: the classes are {', '.join(classes)}: rename the folders"
        )
    base = folders[split].relative_to(root).as_posix()
    prefix = "" if base == "." else f"{base}/"
    rows = sorted((f"{prefix}{path}", index[class_key(name)]) for name, f in mine.items() for path in f.paths())
    if not rows:
        raise DataError(f"no images: {folders[split]}: put images into its folders")
    return SceneDataset(
        root=root,
        split=split,
        classes=tuple(classes),
        names=tuple(path for path, _ in rows),
        labels=np.array([label for _, label in rows], dtype=np.int64),
        notes=tuple(_notes(folders[split], mine)),
        pixels=pixels,
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """From split to its folder: those with a split's name that hold folders of images, or the whole."""
    if not root.is_dir():
        return {}
    base = _without_wrappers(root)
    named = {path.name.lower(): path for path in _folders(base) if path.name.lower() in _SPLITS}
    splits = {name: named[name] for name in _SPLITS if name in named and _has_classes(named[name])}
    if splits:
        return splits
    return {WHOLE: base} if _has_classes(base) else {}


def _without_wrappers(root: Path) -> Path:
    """The folder below folders that hold nothing but one folder without images, as archives unpack into."""
    while True:
        inner = _folders(root)
        if len(inner) != 1 or inner[0].name.lower() in _SPLITS or _images(root) or _images(inner[0]):
            return root
        if not _folders(inner[0]):
            return root
        root = inner[0]


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _images(root: Path) -> bool:
    return bool(next(walk(root)).images)


def _has_classes(root: Path) -> bool:
    """Whether a folder below holds images."""
    return any(folder.path and folder.images for folder in walk(root))


def _class_folders(base: Path) -> dict[str, Folder]:
    """The innermost folders by name, those without images among them.

    Raises:
        DataError: one holds images and folders with images, or two have one name.
    """
    found: dict[str, Folder] = {}
    everything = list(walk(base))
    filled = {folder.path for folder in everything if folder.images}
    for folder in everything:
        if not folder.path or (folder.folders and not folder.images):
            continue
        inner = [path for path in filled if path.startswith(f"{folder.path}/")]
        if folder.images and inner:
            raise DataError(
                f"images beside folders of images: {base / folder.path}: and in {inner[0]}: is it one class or several?"
            )
        name = folder.path.rpartition("/")[2]
        other = found.setdefault(name, folder)
        if other is not folder:
            raise DataError(f"two folders called {name}: {base}: {other.path} and {folder.path}: rename one")
    return found


def _notes(base: Path, classes: dict[str, Folder]) -> Iterator[str]:
    stray = len(next(walk(base)).images)
    if stray:
        yield f"{stray} images beside the class folders, left out"
    empty = [name for name, folder in classes.items() if not folder.images]
    if empty:
        yield f"class folders without images: {', '.join(empty)}"
