"""OHD-SJTU's text: ``ROOT/SPLIT/images/NAME`` and ``ROOT/SPLIT/rotation_txt/STEM.txt``, DOTA's folders but for a name.

A line is ``x1 y1 … x4 y4 x_head y_head class difficult``. A dataset in memory has no head points: they are set to the
middle of corners 1 and 2, which is where they are in the part of OHD-SJTU that comes from DOTA. Corners keep their
order, so that of labels whose first side is the head's (those of OHD-SJTU itself) the heading stays true; of others it
means nothing. Ignored objects are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place


def write_ohd_sjtu(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split, corners to a hundredth of a pixel; returns what is lost, as counts."""
    names = [name.replace(" ", "-") for name in dataset.classes]  # fields are separated by spaces
    quads = dataset.quads.astype(np.float64)
    points = np.concatenate([quads, quads[:, :2].mean(axis=1, keepdims=True)], axis=1).reshape(-1, 10).tolist()
    for i, path in enumerate(dataset.paths):
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        lines = [
            f"{' '.join(f'{v:.2f}' for v in points[r])} {names[int(dataset.labels[r])]} {int(dataset.difficult[r])}\n"
            for r in rows
            if not dataset.ignore[r]
        ]
        place(root / dataset.split / "rotation_txt" / f"{path.stem}.txt", "".join(lines).encode())
    return {
        "ignored object, left out": int(dataset.ignore.sum()),
        "head point not known, set to the middle of corners 1 and 2": int((~dataset.ignore).sum()),
    }
