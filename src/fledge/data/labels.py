"""The index of one split of a detection dataset, and what every label reader shares.

A reader (``fledge.data.datasets``) turns files into one ``DetectionDataset``. Coordinates are continuous pixels of the
stored image: pixel i covers [i, i + 1], so an image of width W reaches from 0 to W.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fledge.data.raster import COLOUR, PixelRule, read_image
from fledge.errors import DataError
from fledge.geometry.boxes import boxes_from_quads, canonicalize
from fledge.types import Targets

# Names become table cells, and file names by ``class_file_name``: no control characters, no path that climbs. A slash
# inside is a name of SAR-AIRcraft's, A320/321.
CLASS_NAME = re.compile(r"(?=.{1,64}\Z)\w[\w\-.+&() ]*(/\w[\w\-.+&() ]*)*")
NAME_RULE = "use up to 64 letters, digits, spaces and -_.+&(), with / only inside"
# Labels beyond a million pixels are damage, and would lose all precision in float32.
FARTHEST = 1e6
# Below a hundredth of a pixel a side is rounding, not an object.
THINNEST = 1e-2
PROBLEMS_SHOWN = 20


class Summary(NamedTuple):
    """Counts of one split: images, images without objects, objects by class name, difficult and ignored objects."""

    images: int
    empty: int
    objects: dict[str, int]
    difficult: int
    ignored: int


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """One split: n images and T labelled objects, the objects of image i being rows offsets[i]…offsets[i + 1].

    Attributes:
        root: the dataset's folder.
        split: the split's name as its format spells it.
        format: the key of ``fledge.data.datasets.FORMATS``.
        classes: the K class names; ``labels`` index them.
        paths: n image files.
        ids: n image stems, unique.
        sizes: (n, 2) int32 height and width in pixels.
        quads: (T, 4, 2) float32 corners as labelled, pixels of the stored image.
        boxes: (T, 5) float32 le90; the minimum-area rectangle where the quad is no rectangle.
        labels: (T,) int64 in 0…K-1.
        difficult: (T,) bool.
        ignore: (T,) bool; these have label 0, which means nothing.
        offsets: (n + 1,) int64.
        stamps: (n, 2) int64 size in bytes and time of change in nanoseconds of each image file when it was indexed.
        notes: what was mended or found odd while reading, one sentence each, to be shown to the user.
        skipped: the bad labels left out, if that was asked for.
        pixels: how ``read`` turns stored samples into bytes; C channels.
    """

    root: Path
    split: str
    format: str
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    ids: tuple[str, ...]
    sizes: NDArray[np.int32]
    quads: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    ignore: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    stamps: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    skipped: tuple[LabelProblem, ...] = ()
    pixels: PixelRule = COLOUR

    def __len__(self) -> int:
        return len(self.paths)

    def targets(self, i: int) -> Targets:
        """The objects of image i, in that image's own pixels, with the quads as labelled."""
        rows = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        return Targets(
            boxes=torch.tensor(self.boxes[rows]),
            labels=torch.tensor(self.labels[rows]),
            ignore=torch.tensor(self.ignore[rows]),
            difficult=torch.tensor(self.difficult[rows]),
            quads=torch.tensor(self.quads[rows]),
            image_id=self.ids[i],
        )

    def read(self, i: int) -> NDArray[np.uint8]:
        """Image i as (H, W, C) uint8: RGB, or what ``pixels`` asks for.

        Raises:
            DataError: the file cannot be read, or has changed since the labels were checked against it.
        """
        self._check_unchanged(i)
        image = read_image(self.paths[i], self.pixels)
        height, width = self.sizes[i]
        if image.shape[:2] != (height, width):
            raise DataError(
                f"image changed: {self.paths[i]}: it was {width}x{height} pixels when its labels were read and is now "
                f"{image.shape[1]}x{image.shape[0]}: do not change a dataset while it is in use"
            )
        return image

    def _check_unchanged(self, i: int) -> None:
        """Refuse an image file that was written, replaced or removed after it was indexed."""
        path, (size, _) = self.paths[i], self.stamps[i]
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(f"image changed: {path}: {error.strerror}: do not change a dataset while in use") from error
        if (state.st_size, state.st_mtime_ns) != tuple(self.stamps[i].tolist()):
            what = f"it had {size} bytes and now has {state.st_size}" if state.st_size != size else "it was written to"
            raise DataError(
                f"image changed: {path}: {what} after its labels were read: do not change a dataset while it is in use"
            )

    def subset(self, indices: Sequence[int]) -> DetectionDataset:
        """The split reduced to the images picked, in the given order."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        counts = np.diff(self.offsets)[chosen]
        rows = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in chosen]
        index = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            ids=tuple(self.ids[i] for i in chosen),
            sizes=self.sizes[chosen],
            quads=self.quads[index],
            boxes=self.boxes[index],
            labels=self.labels[index],
            difficult=self.difficult[index],
            ignore=self.ignore[index],
            offsets=offsets_of(counts),
            stamps=self.stamps[chosen],
        )

    def summary(self) -> Summary:
        """How many images, empty images and objects of each class there are."""
        counts = np.bincount(self.labels[~self.ignore], minlength=len(self.classes))
        return Summary(
            images=len(self),
            empty=int((np.diff(self.offsets) == 0).sum()),
            objects=dict(zip(self.classes, counts.tolist(), strict=True)),
            difficult=int(self.difficult.sum()),
            ignored=int(self.ignore.sum()),
        )


class LabelProblem(NamedTuple):
    """One thing that is wrong with the input.

    Attributes:
        where: ``file:line``, ``file: annotation id N``, or the file.
        what: the fault.
        remedy: what to do.
        kind: a word or two to count it under.
    """

    where: str
    what: str
    remedy: str
    kind: str = "file"


def refuse(problems: Sequence[LabelProblem], dataset: str, hint: str = "", content: str = "labels") -> None:
    """Stop when there is a problem: the total by kind, then the first 20 as ``where: what: what to do``, then the hint.

    The objects of one unknown class share a line. ``content`` says what ``dataset`` holds.

    Raises:
        DataError: ``problems`` is not empty.
    """
    if not problems:
        return
    groups: dict[tuple[str, ...], list[LabelProblem]] = {}
    for number, problem in enumerate(problems):
        groups.setdefault((problem.what,) if problem.kind == "class" else (str(number),), []).append(problem)
    listed = list(groups.values())
    shown = [f"  {_line_of(group)}" for group in listed[:PROBLEMS_SHOWN]]
    more = sum(map(len, listed[PROBLEMS_SHOWN:]))
    if more:
        shown.append(f"  … and {more} more")
    if hint:
        shown.append(hint)
    noun = "problem" if len(problems) == 1 else "problems"
    kinds = f" ({by_kind(problems)})" if len({problem.kind for problem in problems}) > 1 else ""
    head = f"{len(problems)} {noun} in the {content}{kinds}: {dataset}: correct or remove them:"
    raise DataError("\n".join([head, *shown]))


def by_kind(problems: Sequence[LabelProblem]) -> str:
    """How many problems of which kind, the most frequent first: ``3 no area, 1 outside``."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in problems).most_common())


def _line_of(group: list[LabelProblem]) -> str:
    first, *others = group
    also = ", ".join(problem.where for problem in others[:2]) + (", …" if len(others) > 2 else "")
    count = f" ({len(group)} objects, also at {also})" if others else ""
    return f"{first.where}: {first.what}{count}: {first.remedy}"


def without_duplicates(dataset: DetectionDataset) -> tuple[DetectionDataset, int]:
    """The dataset with one of each set of objects that share image, class and corners, and how many others there were.

    For training, where a second copy would count an object twice. The order of the corners does not matter; the first
    object of a set stays.
    """
    owner = np.repeat(np.arange(len(dataset)), np.diff(dataset.offsets))
    order = np.lexsort((dataset.quads[..., 1], dataset.quads[..., 0]), axis=-1)
    points = np.take_along_axis(dataset.quads, order[..., None], axis=1).reshape(-1, 8)
    key = np.column_stack([owner, dataset.labels, dataset.ignore, points.astype(np.float64)])
    _, first = np.unique(key, axis=0, return_index=True)
    rows = np.sort(first)
    kept = replace(
        dataset,
        quads=dataset.quads[rows],
        boxes=dataset.boxes[rows],
        labels=dataset.labels[rows],
        difficult=dataset.difficult[rows],
        ignore=dataset.ignore[rows],
        offsets=offsets_of(np.bincount(owner[rows], minlength=len(dataset))),
    )
    return kept, len(owner) - len(rows)


def offsets_of(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n + 1,) row offsets from (n,) objects per image."""
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)])


def class_key(name: str) -> str:
    """A name without case, spaces, slashes, hyphens and underscores: tools disagree on these (``storage tank``)."""
    return re.sub(r"[\s_\-/]", "", name).lower()


def class_file_name(name: str) -> str:
    """A class name as part of a file name: no separator of paths, and still the same class by ``class_key``."""
    return name.replace("/", "_")


def class_index(classes: Sequence[str], where: str = "class list") -> dict[str, int]:
    """From the key of a class name (see ``class_key``) to its label; ``where`` is for messages.

    Raises:
        DataError: no classes, a name that cannot be one, or two names that differ only in case or separators.
    """
    if not classes:
        raise DataError(f"no classes: {where}: name at least one class, or label at least one object")
    for name in classes:
        if not CLASS_NAME.fullmatch(name):
            raise DataError(f"not a class name: {where}: {name!r}: {NAME_RULE}")
    index = {class_key(name): label for label, name in enumerate(classes)}
    if len(index) < len(classes):
        raise DataError(f"a class is named twice: {where}: {', '.join(classes)}: keep one spelling of each")
    return index


def mend_quads(quads: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Quads (T, 4, 2) with the crossed ones put in order, and which those were (T,).

    Two sides of a four-corner polygon can cross only if the corners are in convex position, so the order that does not
    cross is unique; it is taken clockwise on screen. Concave quads that do not cross stay as they are.
    """
    a, b, c, d = (quads[:, k] for k in range(4))
    crossed = _cross_over(a, b, c, d) | _cross_over(b, c, d, a)
    # A corner visited twice on the way (A B A C) encloses nothing although its corners span a triangle.
    spans = np.ptp(quads, axis=1).min(axis=1) if len(quads) else np.zeros(0)
    crossed |= (np.abs(quad_areas(quads)) < THINNEST**2) & (spans > THINNEST)
    offset = quads - quads.mean(axis=1, keepdims=True)
    order = np.argsort(np.arctan2(offset[..., 1], offset[..., 0]), axis=1, kind="stable")
    return np.where(crossed[:, None, None], np.take_along_axis(quads, order[..., None], axis=1), quads), crossed


def quad_areas(quads: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed areas (T,) of quads (T, 4, 2), positive when clockwise on screen."""
    x, y = quads[..., 0], quads[..., 1]
    area: NDArray[np.float64] = 0.5 * (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)
    return area


def minimum_boxes(quads: NDArray[np.float64]) -> NDArray[np.float32]:
    """(T, 5) float32 le90 rectangles of least area around quads (T, 4, 2), computed in float64."""
    return single_boxes(boxes_from_quads(torch.from_numpy(quads))).numpy()


def single_boxes(boxes: Tensor) -> Tensor:
    """Boxes (T, 5) of float64 as float32 le90: rounding can lift an angle to pi/2, so they are canonicalised again."""
    return canonicalize(boxes.float())


def outside(quads: NDArray[np.float64], sizes: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which quads (T, 4, 2) lie wholly beyond an edge of their image of (T, 2) height and width."""
    low, high = quads.min(axis=1), quads.max(axis=1)
    beyond: NDArray[np.bool_] = ((high <= 0) | (low >= sizes[:, ::-1])).any(axis=1)
    return beyond


def _cross_over(
    p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64], s: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether segments pq and rs, each (T, 2), cross in their interiors."""

    def side(u: NDArray[np.float64], v: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
        turn: NDArray[np.float64] = np.sign(
            (v[:, 0] - u[:, 0]) * (w[:, 1] - u[:, 1]) - (v[:, 1] - u[:, 1]) * (w[:, 0] - u[:, 0])
        )
        return turn

    crossing: NDArray[np.bool_] = (side(p, q, r) * side(p, q, s) < 0) & (side(r, s, p) * side(r, s, q) < 0)
    return crossing
