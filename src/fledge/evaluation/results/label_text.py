"""Ultralytics' prediction labels: a file an image, a detection a line, with ``save_txt=True save_conf=True``.

Each line is ``class x1 y1 x2 y2 x3 y3 x4 y4 confidence``, or ``class cx cy w h confidence`` of the horizontal models:
the class an index into the model's names, coordinates as fractions of width and height. Source:
https://docs.ultralytics.com/datasets/obb/ and the ``save_txt`` of its results.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from fledge.data.datasets.text_labels import BadLabelError
from fledge.data.labels import LabelProblem
from fledge.evaluation.results.listing import Collector, Floats, Listing, Source, corners_of_hulls, sound
from fledge.evaluation.results.text_table import Layout, read_table

_ORIENTED = "write class x1 y1 x2 y2 x3 y3 x4 y4 confidence, fractions of the image"
_HORIZONTAL = "write class cx cy w h confidence, fractions of the image"
_NO_CONFIDENCE = "these lines have no confidence: save them with save_conf=True"
_INDEX = re.compile(r"\d{1,6}", re.ASCII)
_HIGHEST = 8.0  # pixels written by mistake reach far beyond


def read_label_files(
    sources: Sequence[Source], names: Mapping[int, str], sizes: Mapping[str, tuple[int, int]], name: str
) -> Listing:
    """Prediction labels, one source an image.

    Args:
        sources: files ``<image>.txt``.
        names: from class index to name.
        sizes: (height, width) of every image.
        name: what is read, for messages.

    Raises:
        DataError: a line is not as it should be, or there is no image for a file.
    """
    width = _first_width(sources)
    into = Collector("Ultralytics label text", horizontal=width == 6)
    layout = _layout(10 if width != 6 else 6, set(map(str, names)), len(names))
    labels = {str(index): into.label(class_name) for index, class_name in names.items()}
    for source in sources:
        image = source.name.removesuffix(".txt")
        if image not in sizes:
            into.problems.append(_no_image(source, image))
            continue
        first, numbers, lines = read_table(source, layout, into.problems)
        height, wide = sizes[image]
        points = numbers[:, :-1].reshape(len(lines), layout.fields // 2 - 1, 2) * np.array([wide, height])
        if width == 6:
            points = corners_of_hulls(points[:, 0] - points[:, 1] / 2, points[:, 0] + points[:, 1] / 2)
        label = np.array([labels[str(int(k))] for k in first], dtype=np.int64)
        codes = np.full(len(lines), into.image_codes([image])[0], dtype=np.int64)
        into.add(source.where, codes, label, numbers[:, -1].copy(), points, lines)
    return into.listing(name)


def _first_width(sources: Sequence[Source]) -> int:
    """The number of fields in the first line of all."""
    return next((len(line.split()) for source in sources for line in source.data.split(b"\n") if line.strip()), 0)


def _no_image(source: Source, image: str) -> LabelProblem:
    what = f"no image {image!r} in the ground truth"
    if "__" in image:
        what += "; fractions of a patch cannot be read without it"
    return LabelProblem(f"{source.where}:1", what, "give the detections of these images only", "image")


def _layout(fields: int, known: set[str], count: int) -> Layout:
    form = _ORIENTED if fields == 10 else _HORIZONTAL

    def is_sound(first: Sequence[str], numbers: Floats) -> bool:
        return set(first) <= known and sound(numbers[:, -1], numbers) and bool((np.abs(numbers) <= _HIGHEST).all())

    def check(first: str, values: Sequence[float]) -> None:
        if not _INDEX.fullmatch(first) or str(int(first)) not in known:
            raise BadLabelError(f"class index is {first[:64]!r}", f"there are {count} names, from 0 on", "class index")
        if max(map(abs, values)) > _HIGHEST:
            raise BadLabelError(f"coordinate {max(values, key=abs):g} is no fraction of the image", form, "number")

    missing = (9, 5)
    return Layout(form, fields, fields - 2, is_sound, check, lambda n: _NO_CONFIDENCE if n in missing else "")
