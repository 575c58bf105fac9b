"""What has to be known before a figure is believed: training images among those evaluated, choices made on them, and
classes too small to say anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fledge.data.duplicates import take_prints
from fledge.data.image_header import read_header
from fledge.data.labels import DetectionDataset
from fledge.data.raster import IMAGE_SUFFIXES
from fledge.data.splits import Progress, silent
from fledge.errors import DataError
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.merge import patch_of

FEW = 20
MOST_DECODED = 2000
_SHOWN = 5
_DOTA_NAME = re.compile(r"P\d{4,5}", re.ASCII)


@dataclass(frozen=True)
class Check:
    """One question about an evaluation and its answer.

    Attributes:
        about: ``training images``, ``selection``, ``shared images`` or ``few objects``.
        state: ``good``, ``warning``, or ``unknown`` if it could not be checked.
        text: the answer, a part of a sentence.
    """

    about: str
    state: Literal["good", "warning", "unknown"]
    text: str


def trust_line(checks: Sequence[Check]) -> str:
    """All answers in one line, warnings first and what could not be checked last."""
    rank = {"warning": 0, "good": 1, "unknown": 2}
    parts = [check.text for check in sorted(checks, key=lambda check: rank[check.state])]
    return "trust: " + "; ".join(parts)


def trust_record(checks: Sequence[Check]) -> list[dict[str, str]]:
    """The same as plain values."""
    return [{"about": check.about, "state": check.state, "text": check.text} for check in checks]


def check_objects(metrics: Metrics, least: int = FEW) -> Check:
    """Whether each class has enough objects for its average precision to mean something."""
    counts = zip(metrics.classes, metrics.objects.tolist(), strict=True)
    few = [f"{name} {count}" for name, count in counts if count < least]
    if not few:
        return Check("few objects", "good", f"every class has {least} objects or more")
    noun = "class has" if len(few) == 1 else "classes have"
    return Check("few objects", "warning", f"{len(few)} {noun} fewer than {least} objects ({_first(few)})")


def check_shared(dataset: DetectionDataset) -> Check | None:
    """Whether a benchmark's images are known to be those of another; None where nothing is known.

    OHD-SJTU-L's test list names 322 images of DOTA's validation list; ShipRSImageNet has images of HRSC2016.
    """
    where = f"{dataset.format} {dataset.root.name}".lower()
    if "ohd" in where:
        theirs = sum(_DOTA_NAME.fullmatch(_whole(name)) is not None for name in dataset.ids)
        if theirs:
            text = f"{theirs} of {len(dataset)} images are DOTA's by name, so seen in training on DOTA train and val"
            return Check("shared images", "warning", text)
    if re.search(r"ship.?rs.?image.?net", where):
        text = "ShipRSImageNet contains images of HRSC2016: do not train on the one and test on the other"
        return Check("shared images", "warning", text)
    return None


def check_selection(selected_on: Sequence[tuple[str, str]], dataset: DetectionDataset) -> Check:
    """Whether a checkpoint, or a setting, was chosen by a figure on these images.

    Args:
        selected_on: folders and splits that choices are known to have been made on.
        dataset: what is evaluated.
    """
    here = (str(dataset.root.resolve()), dataset.split)
    if here in {(str(Path(folder).resolve()), split) for folder, split in selected_on}:
        return Check("selection", "warning", f"the checkpoint was chosen on this split, {dataset.split!r}")
    if selected_on:
        return Check("selection", "good", "the checkpoint was not chosen on this split")
    return Check("selection", "good", "no checkpoint was chosen by a figure")


UNKNOWN_SELECTION = Check("selection", "unknown", "not checked whether anything was chosen on this split")
UNKNOWN_TRAINING = Check("training images", "unknown", "not checked whether these images were trained on")


def check_training(
    dataset: DetectionDataset, folder: Path, images: Sequence[Path] | None = None, progress: Progress = silent
) -> Check:
    """Whether images of a split were trained on: by the pixels, and by the names.

    Pixels are compared, whatever the file format, where width and height are the same; of more than ``MOST_DECODED``
    such images the files are compared instead. A patch of a training image has other pixels, but names it.

    Args:
        dataset: what is evaluated.
        folder: of the training images.
        images: the training images; by default all under ``folder``.
        progress: shown while images are read.
    """
    trained = sorted(_images_under(folder)) if images is None else list(images)
    if not trained:
        return Check(
            "training images", "unknown", f"not checked whether these images were trained on: none in {folder}"
        )
    same, how = _same_images(dataset, trained, progress)
    names = {_whole(path.stem) for path in trained}
    namesakes = [name for name in dataset.ids if _whole(name) in names and name not in same]
    total, found = len(dataset), []
    if same:
        found.append(f"{len(same)} of {total} images were trained on ({_first(sorted(same))}; {how})")
    if namesakes:
        found.append(f"{len(namesakes)} of {total} images have the name of a training image ({_first(namesakes)})")
    if found:
        return Check("training images", "warning", " and ".join(found))
    return Check("training images", "good", f"none of {total} images is among the {len(trained)} trained on ({how})")


def check_trained_on(dataset: DetectionDataset, folder: str | Path | None, progress: Progress) -> Check:
    """``check_training`` with what the user named, which may be nothing.

    Raises:
        DataError: there is no such folder.
    """
    if folder is None:
        return UNKNOWN_TRAINING
    if not Path(folder).is_dir():
        raise DataError(f"no such folder: {folder}: name the folder of the training images")
    return check_training(dataset, Path(folder), progress=progress)


def _same_images(dataset: DetectionDataset, trained: Sequence[Path], progress: Progress) -> tuple[set[str], str]:
    """The names of the images that are training images, and how that was told."""
    sizes = {tuple(size) for size in dataset.sizes.tolist()}
    candidates = [(path, size) for path, size in zip(trained, map(_size, trained), strict=True) if size in sizes]
    wanted = {size for _, size in candidates}
    mine = [i for i, size in enumerate(dataset.sizes.tolist()) if tuple(size) in wanted]
    pairs = [("evaluated", dataset.paths[i]) for i in mine] + [("trained", path) for path, _ in candidates]
    if len(pairs) > MOST_DECODED:
        digests, how = _of_files([path for _, path in pairs], len(mine)), "by their files"
    else:
        with progress("compare with training images", len(pairs)) as advance:
            digests, how = take_prints(pairs, advance).digests, "by their pixels"
    theirs = set(digests[len(mine) :]) - {b""}
    return {dataset.ids[i] for i, digest in zip(mine, digests[: len(mine)], strict=True) if digest in theirs}, how


def _of_files(paths: Sequence[Path], mine: int) -> tuple[bytes, ...]:
    """A digest of each file that could be one on the other side (the first ``mine``, and the rest): b"" for others."""
    sizes = [path.stat().st_size for path in paths]
    both = set(sizes[:mine]) & set(sizes[mine:])
    return tuple(
        hashlib.blake2b(path.read_bytes(), digest_size=16).digest() if size in both else b""
        for path, size in zip(paths, sizes, strict=True)
    )


def _size(path: Path) -> tuple[int, int] | None:
    try:
        header = read_header(path)
    except DataError:
        return None
    return header.height, header.width


def _images_under(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


def _whole(name: str) -> str:
    """The name of the whole image that a patch was cut from, or the name itself."""
    patch = patch_of(name)
    return patch.image if patch else name


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
