"""Label writers, one file per format, and the table of them: the counterparts of ``fledge.data.datasets``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fledge.data.labels import DetectionDataset
from fledge.data.writers import coco, dota, hit_uav, yolo_obb


class Writer(NamedTuple):
    """How one format lays a dataset out.

    Attributes:
        image_folder: from a split's name to the folder of its images, below the root.
        write: write the labels of a split below a root, for images that are called as in ``paths``; returns what the
            format could not hold, as counts by description.
        lost_names: what the format cannot hold of the class names of all splits, likewise.
    """

    image_folder: Callable[[str], str]
    write: Callable[[Path, DetectionDataset], dict[str, int]]
    lost_names: Callable[[Sequence[DetectionDataset]], dict[str, int]] = lambda _: {}


WRITERS: dict[str, Writer] = {
    "dota": Writer(dota.image_folder, dota.write_dota, dota.lost_names),
    "yolo_obb": Writer(yolo_obb.image_folder, yolo_obb.write_yolo_obb),
    "coco": Writer(coco.image_folder, coco.write_coco),
    "hit_uav": Writer(hit_uav.image_folder, hit_uav.write_hit_uav),
}
