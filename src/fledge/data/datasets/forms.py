"""The table of formats: how each is recognised, read, and what classes it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from fledge.data.catalogue.dior import DIOR_CLASSES
from fledge.data.catalogue.dota import DOTA_V20_CLASSES
from fledge.data.catalogue.fair1m import FAIR1M_CLASSES
from fledge.data.catalogue.hit_uav import HIT_UAV_CLASSES
from fledge.data.catalogue.hrrsd import HRRSD_CLASSES
from fledge.data.catalogue.hrsc2016 import HRSC_CLASSES, HRSC_TYPES
from fledge.data.catalogue.nwpu_vhr10 import VHR10_CLASSES
from fledge.data.catalogue.ohd_sjtu import OHD_L_CLASSES
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT_CLASSES
from fledge.data.catalogue.shiprsimagenet import LEVELS
from fledge.data.catalogue.ucas_aod import UCAS_AOD_CLASSES
from fledge.data.datasets import (
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
    yolo_obb,
)
from fledge.data.datasets.draft import Draft, order_classes, renaming
from fledge.data.labels import class_key

Remap = Mapping[str, str] | None
ClassesOf = Callable[[Iterable[Draft], Remap], tuple[str, ...]]


def _named(*official: Sequence[str]) -> ClassesOf:
    """Class names as they occur in the labels, in the order of the first official list that has them all."""

    def classes(drafts: Iterable[Draft], remap: Remap) -> tuple[str, ...]:
        names = set(chain.from_iterable(draft.names(remap) for draft in drafts))
        keys = set(map(class_key, names))
        fitting = (known for known in official if keys <= set(map(class_key, known)))
        return order_classes(names, next(fitting, ()))

    return classes


def _fixed(official: Sequence[str]) -> ClassesOf:
    """All class names of an official list, whether they occur or not, each once."""

    def classes(_: Iterable[Draft], remap: Remap) -> tuple[str, ...]:
        names: dict[str, str] = {}
        for name in filter(None, map(renaming(remap), official)):
            names.setdefault(class_key(name), name)
        return tuple(names.values())

    return classes


def _listed(drafts: Iterable[Draft], remap: Remap) -> tuple[str, ...]:
    """Class names as the splits list them, each once; two spellings within one split stay, to be refused."""
    new = renaming(remap)
    names: list[str] = []
    for draft in sorted(drafts, key=lambda draft: draft.split):
        known = {class_key(name) for name in names}
        names += [name for name in dict.fromkeys(map(new, draft.listed)) if name and class_key(name) not in known]
    return tuple(names)


class Format(NamedTuple):
    """One way to write a dataset down.

    Attributes:
        tree: its folders, as shown to users.
        splits: the splits found under a root; none means that the root is not in this format.
        parse: what the label files of one split state.
        classes: the class names common to the drafts of all splits, after a renaming.
    """

    tree: str
    splits: Callable[[Path], tuple[str, ...]]
    parse: Callable[[Path, str], Draft]
    classes: ClassesOf


def _level(level: int) -> Format:
    """ShipRSImageNet at a level coarser than its finest."""
    parse = shiprsimagenet.at_level(level)
    return Format(shiprsimagenet.TREE, shiprsimagenet.shiprsimagenet_splits, parse, _named(LEVELS[level]))


# Where a root could be read in several ways, the first is taken; another must be named.
FORMATS: dict[str, Format] = {
    "dota": Format(dota.TREE, dota.dota_splits, dota.parse_dota, _named(DOTA_V20_CLASSES)),
    "dota_hbb": Format(dota.TREE, dota.dota_splits, dota.parse_dota_hbb, _named(DOTA_V20_CLASSES)),
    "ohd_sjtu": Format(ohd_sjtu.TREE, ohd_sjtu.ohd_sjtu_splits, ohd_sjtu.parse_ohd_sjtu, _named(OHD_L_CLASSES)),
    "fair1m": Format(fair1m.TREE, fair1m.fair1m_splits, fair1m.parse_fair1m, _named(FAIR1M_CLASSES)),
    "nwpu_vhr10": Format(
        nwpu_vhr10.TREE, nwpu_vhr10.nwpu_vhr10_splits, nwpu_vhr10.parse_nwpu_vhr10, _fixed(VHR10_CLASSES)
    ),
    "ucas_aod": Format(ucas_aod.TREE, ucas_aod.ucas_aod_splits, ucas_aod.parse_ucas_aod, _fixed(UCAS_AOD_CLASSES)),
    "ssdd": Format(ssdd.TREE, ssdd.ssdd_splits, ssdd.parse_ssdd, _named()),
    "hit_uav": Format(hit_uav.TREE, hit_uav.hit_uav_splits, hit_uav.parse_hit_uav, _listed),
    "rsdd": Format(rsdd.TREE, rsdd.rsdd_splits, rsdd.parse_rsdd, _named()),
    "hit_uav_xml": Format(
        hit_uav_xml.TREE, hit_uav_xml.hit_uav_xml_splits, hit_uav_xml.parse_hit_uav_xml, _named(HIT_UAV_CLASSES)
    ),
    "shiprsimagenet": Format(
        shiprsimagenet.TREE,
        shiprsimagenet.shiprsimagenet_splits,
        shiprsimagenet.parse_shiprsimagenet,
        _named(LEVELS[shiprsimagenet.FINEST]),
    ),
    "shiprsimagenet_level0": _level(0),
    "shiprsimagenet_level1": _level(1),
    "shiprsimagenet_level2": _level(2),
    "dior_r": Format(dior_r.TREE, dior_r.dior_r_splits, dior_r.parse_dior_r, _named(DIOR_CLASSES)),
    "hrsc2016": Format(hrsc2016.TREE, hrsc2016.hrsc2016_splits, hrsc2016.parse_hrsc2016, _fixed(HRSC_CLASSES)),
    "hrsc2016_types": Format(
        hrsc2016.TREE, hrsc2016.hrsc2016_splits, hrsc2016.parse_hrsc2016_types, _named(tuple(HRSC_TYPES.values()))
    ),
    "dior": Format(voc.DIOR_TREE, voc.dior_splits, voc.parse_dior, _named(DIOR_CLASSES)),
    "hrrsd": Format(voc.HRRSD_TREE, voc.hrrsd_splits, voc.parse_hrrsd, _named(HRRSD_CLASSES)),
    "voc": Format(voc.TREE, voc.voc_splits, voc.parse_voc, _named(SAR_AIRCRAFT_CLASSES, DIOR_CLASSES, HRRSD_CLASSES)),
    "geo": Format(geo.TREE, geo.geo_splits, geo.parse_geo, _named()),
    "coco": Format(coco.TREE, coco.coco_splits, coco.parse_coco, _listed),
    "yolo_obb": Format(yolo_obb.TREE, yolo_obb.yolo_splits, yolo_obb.parse_yolo, _listed),
}
