"""FAIR1M's XML: ``ROOT/SPLIT/images/NAME`` and ``ROOT/SPLIT/labelXml/STEM.xml``, corners as the text of five points.

The last point repeats the first. There is no word for difficult or ignored objects: difficult ones become plain
objects, ignored ones are left out.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from fledge.data.labels import DetectionDataset
from fledge.data.staging import place
from fledge.data.writers.lost import lost_flags
from fledge.data.writers.xml_files import number


def image_folder(split: str) -> str:
    """Where the images of a split lie, below the root."""
    return f"{split}/images"


def write_fair1m(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    quads = dataset.quads.astype(np.float64).tolist()
    for i, path in enumerate(dataset.paths):
        height, width = dataset.sizes[i].tolist()
        rows = range(int(dataset.offsets[i]), int(dataset.offsets[i + 1]))
        lines = [
            "<annotation>",
            f"  <source><filename>{escape(path.name)}</filename></source>",
            f"  <size><width>{width}</width><height>{height}</height></size>",
            "  <objects>",
            *(_object(dataset.classes[int(dataset.labels[r])], quads[r]) for r in rows if not dataset.ignore[r]),
            "  </objects>",
            "</annotation>",
        ]
        place(root / dataset.split / "labelXml" / f"{path.stem}.xml", ("\n".join(lines) + "\n").encode())
    return lost_flags(dataset)


def _object(name: str, corners: list[list[float]]) -> str:
    points = "".join(f"<point>{number(x)},{number(y)}</point>" for x, y in [*corners, corners[0]])
    return (
        f"    <object><coordinate>pixel</coordinate><possibleresult><name>{escape(name)}</name></possibleresult>\n"
        f"      <points>{points}</points></object>"
    )
