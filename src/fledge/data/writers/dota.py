"""DOTA text: ``ROOT/SPLIT/images/NAME`` and ``ROOT/SPLIT/labelTxt/STEM.txt``, as ``fledge.data.datasets.dota`` reads.

The text has no word for an ignored object. It is written with difficult 2; the manifest that tiling and conversion put
into ``ROOT/SPLIT/`` says what that means (without it, 2 is difficult, as from the devkit).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return f"{split}/images"


def write_dota(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split, corners to a hundredth of a pixel; nothing is lost."""
    folder = root / dataset.split
    names = [name.replace(" ", "-") for name in dataset.classes]  # fields are separated by spaces
    for i, path in enumerate(dataset.paths):
        place(folder / "labelTxt" / f"{path.stem}.txt", _lines(dataset, i, names).encode())
    return {}


def lost_names(datasets: Sequence[DetectionDataset]) -> dict[str, int]:
    """What happens to the class names of some splits, as counts: the text names classes by their objects only."""
    names = {name: 0 for dataset in datasets for name in dataset.classes}
    for dataset in datasets:
        for name, count in dataset.summary().objects.items():
            names[name] += count
    return {
        "class without an object, left out": sum(not count for count in names.values()),
        "class name with spaces, now hyphens": sum(" " in name for name in names),
    }


def _lines(dataset: DetectionDataset, i: int, names: list[str]) -> str:
    rows = slice(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
    columns = (dataset.quads[rows].reshape(-1, 8), dataset.labels[rows], dataset.difficult[rows], dataset.ignore[rows])
    lines = []
    for quad, label, difficult, ignore in zip(*(column.tolist() for column in columns), strict=True):
        corners = " ".join(f"{value:.2f}" for value in quad)
        lines.append(f"{corners} {names[label]} {2 if ignore else int(difficult)}\n")
    return "".join(lines)
