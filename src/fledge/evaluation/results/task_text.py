"""DOTA's result files, one a class: ``Task1_<class>.txt`` (oriented) and ``Task2_<class>.txt`` (horizontal).

Each line is ``image score x1 y1 x2 y2 x3 y3 x4 y4``, or ``image score xmin ymin xmax ymax``, pixels of the image.
Source: https://captain-whu.github.io/DOTA/tasks.html. MMRotate, Ultralytics and fledge write the same files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fledge.data.datasets.text_labels import BadLabelError
from fledge.evaluation.results.listing import Collector, Floats, Listing, Source, corners_of_hulls, sound
from fledge.evaluation.results.text_table import Layout, read_table

TASK_FILE = re.compile(r"Task([12])_(.+)\.txt")
_TASK1 = "write image score x1 y1 x2 y2 x3 y3 x4 y4"
_TASK2 = "write image score xmin ymin xmax ymax"


def read_task_files(sources: Sequence[Source], task: int, name: str) -> Listing:
    """The files of Task 1 or 2 among some sources; the others are passed over.

    Raises:
        DataError: a line is not as it should be; ``name`` is what was read.
    """
    into = Collector(f"DOTA Task {task} text", horizontal=task == 2)
    for source in sources:
        match = TASK_FILE.fullmatch(source.name)
        if match is None or int(match[1]) != task:
            continue
        label = into.label(match[2])
        first, numbers, lines = read_table(source, _LAYOUTS[task], into.problems)
        points = numbers[:, 1:]
        quads = corners_of_hulls(points[:, :2], points[:, 2:]) if task == 2 else points.reshape(-1, 4, 2)
        labels = np.full(len(lines), label, dtype=np.int64)
        into.add(source.where, into.image_codes(first), labels, numbers[:, 0].copy(), quads, lines)
    return into.listing(name)


def _in_order(numbers: Floats) -> bool:
    return bool((numbers[:, 3] >= numbers[:, 1]).all() and (numbers[:, 4] >= numbers[:, 2]).all())


def _check_order(values: Sequence[float]) -> None:
    if values[3] < values[1] or values[4] < values[2]:
        raise BadLabelError("xmax < xmin or ymax < ymin", _TASK2, "no area")


_LAYOUTS = {
    1: Layout(_TASK1, 10, 0, lambda _, n: sound(n[:, 0], n[:, 1:]), lambda *_: None),
    2: Layout(
        _TASK2,
        6,
        0,
        lambda _, n: sound(n[:, 0], n[:, 1:]) and _in_order(n),
        lambda _, values: _check_order(values),
        lambda count: f"{_TASK2}; oriented boxes belong into Task1_ files" if count == 10 else "",
    ),
}
