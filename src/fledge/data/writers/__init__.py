"""Label writers, one file per format, and the table of them: the counterparts of ``fledge.data.datasets``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import category

from fledge.data.labels import DetectionDataset
from fledge.data.writers import (
    coco,
    dior_r,
    dota,
    fair1m,
    geo,
    hit_uav,
    hit_uav_xml,
    hrsc2016,
    nwpu_vhr10,
    ohd_sjtu,
    rsdd,
    shiprsimagenet,
    ssdd,
    ucas_aod,
    voc,
    xml_files,
    yolo,
    yolo_obb,
)
from fledge.data.writers.lost import lost_names
from fledge.errors import DataError


class Writer(NamedTuple):
    """How one format lays a dataset out.

    Attributes:
        image_folder: from a split's name to the folder of its images, below the root.
        write: write the labels of a split below a root, for images that are called as in ``paths``; returns what the
            format could not hold, as counts by description.
        lost_names: what the format cannot hold of the class names of all splits, likewise.
        check: refuse splits that the format cannot hold at all, with a DataError, before anything is written.
        world: labels are in coordinates of the world, so that the images must say where they lie.
        image_names: the images' files (n,) below that folder, without suffix: the names of the images, with a folder
            before them where it depends on the image.
        read_as: from such a file to what the image is called when the dataset is read.
        as_text: names of images stand in XML or in lists.
    """

    image_folder: Callable[[str], str]
    write: Callable[[Path, DetectionDataset], dict[str, int]]
    lost_names: Callable[[Sequence[DetectionDataset]], dict[str, int]] = lambda _: {}
    check: Callable[[Sequence[DetectionDataset]], None] = lambda _: None
    world: bool = False
    image_names: Callable[[DetectionDataset], Sequence[str]] = lambda dataset: dataset.ids
    read_as: Callable[[str], str] = lambda name: name
    as_text: bool = False


WRITERS: dict[str, Writer] = {
    "dota": Writer(dota.image_folder, dota.write_dota, dota.lost_names),
    "yolo_obb": Writer(yolo_obb.image_folder, yolo_obb.write_yolo_obb),
    "coco": Writer(coco.image_folder, coco.write_coco),
    "hit_uav": Writer(hit_uav.image_folder, hit_uav.write_hit_uav),
    "hit_uav_xml": Writer(xml_files.image_folder, hit_uav_xml.write_hit_uav_xml, lost_names, as_text=True),
    "dior_r": Writer(xml_files.image_folder, dior_r.write_dior_r, lost_names, as_text=True),
    "fair1m": Writer(fair1m.image_folder, fair1m.write_fair1m, lost_names, as_text=True),
    "ohd_sjtu": Writer(dota.image_folder, ohd_sjtu.write_ohd_sjtu, dota.lost_names),
    "hrsc2016": Writer(
        hrsc2016.image_folder, hrsc2016.write_hrsc2016, lost_names, hrsc2016.CLASSES.check, as_text=True
    ),
    "shiprsimagenet": Writer(
        shiprsimagenet.image_folder,
        shiprsimagenet.write_shiprsimagenet,
        lost_names,
        shiprsimagenet.CLASSES.check,
        as_text=True,
    ),
    "ssdd": Writer(ssdd.image_folder, ssdd.write_ssdd, lost_names, as_text=True),
    "rsdd": Writer(xml_files.image_folder, rsdd.write_rsdd, lost_names, as_text=True),
    "nwpu_vhr10": Writer(
        lambda _: ".",
        nwpu_vhr10.write_nwpu_vhr10,
        nwpu_vhr10.CLASSES.lost_names,
        nwpu_vhr10.CLASSES.check,
        image_names=nwpu_vhr10.image_names,
        read_as=nwpu_vhr10.read_as,
        as_text=True,
    ),
    "ucas_aod": Writer(
        lambda _: ".",
        ucas_aod.write_ucas_aod,
        ucas_aod.CLASSES.lost_names,
        ucas_aod.CLASSES.check,
        image_names=ucas_aod.image_names,
        read_as=ucas_aod.read_as,
        as_text=True,
    ),
    "voc": Writer(xml_files.image_folder, voc.write_voc, lost_names, as_text=True),
    "yolo": Writer(yolo_obb.image_folder, yolo.write_yolo),
    "geojson": Writer(geo.image_folder, geo.write_geojson, lost_names, geo.check_georeferences, True),
    "geopackage": Writer(geo.image_folder, geo.write_geopackage, lost_names, geo.check_georeferences, True),
}


def check_names(form: str, datasets: Sequence[DetectionDataset]) -> None:
    """Refuse images whose names a format cannot hold, and those it would call by the same name.

    Raises:
        DataError: there are such: two of one name, in two splits that the format has one folder for or in one split, or
            names with line breaks, other control characters or blanks at an end where they stand in text.
    """
    writer = WRITERS[form]
    first: dict[tuple[str, str], DetectionDataset] = {}
    for dataset in datasets:
        folder = writer.image_folder(dataset.split)
        for name in map(writer.read_as, writer.image_names(dataset)):
            if writer.as_text and not _is_text(name):
                raise DataError(
                    f"image name {name!a}: {dataset.root}: {form} has names in its files, where this one cannot "
                    "stand: rename it"
                )
            other = first.get((folder, name))
            if other is dataset:
                raise DataError(f"two images called {name}: {dataset.root}: {form} would call them so: rename one")
            if other:
                raise DataError(
                    f"two images called {name}: {dataset.root}: in {other.split} and {dataset.split}, and {form} has "
                    "one folder for both: rename one, or choose a format with a folder for each split, such as coco"
                )
            first[folder, name] = dataset


def _is_text(name: str) -> bool:
    """Whether a name can stand in XML or on a line: no control characters, halves of letters, line breaks."""
    return name == name.strip() and not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in name)
