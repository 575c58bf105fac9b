"""Pascal VOC XML, upright boxes: ``bndbox`` with ``xmin``, ``ymin``, ``xmax`` and ``ymax``, edges in pixels.

As DIOR has it, but for the folder of annotations. The numbers are the edges themselves, decimals where they have them:
VOC's own kit counts pixels from 1 with both ends included, which few readers do.
"""

from __future__ import annotations

from pathlib import Path

from fledge.data.labels import DetectionDataset
from fledge.data.measures import hulls, turned
from fledge.data.writers.xml_files import EDGES, names_of, write_xml


def write_voc(root: Path, dataset: DetectionDataset) -> dict[str, int]:
    """Write the labels of one split; returns what is lost, as counts."""
    edges = hulls(dataset).tolist()
    write_xml(
        root,
        dataset,
        "Annotations",
        names_of(dataset),
        lambda row: ("bndbox", list(zip(EDGES, edges[row], strict=True))),
    )
    return {
        "ignored object, left out": int(dataset.ignore.sum()),
        "turned box, now the upright one around it": int((turned(dataset) & ~dataset.ignore).sum()),
    }
