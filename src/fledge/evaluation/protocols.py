"""The rules of the official evaluations, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fledge.errors import UsageError

IouKind = Literal["quad", "box", "horizontal"]
Interpolation = Literal["voc07", "voc12", "coco101"]
Matching = Literal["best", "free"]

COCO_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))


@dataclass(frozen=True)
class Protocol:
    """How detections are compared with objects and how precision and recall become a number.

    Attributes:
        name: under which it is asked for.
        title: what it is called in print.
        iou: between the quadrilaterals as labelled, the smallest rectangles around them, or their horizontal hulls.
        thresholds: the T IoU thresholds, rising.
        interpolation: 11 points (VOC 2007), the area under the envelope (VOC 2010 to 2012) or 101 points (COCO).
        matching: ``best``: the object a detection overlaps most, and no other (VOC, DOTA devkit); ``free``: of the
            objects no better detection has taken (COCO).
        strict: a match has to exceed the threshold; reaching it is not enough.
        honours_difficult: difficult objects count neither way; otherwise they are objects like others.
        pixel: added to width and height of horizontal boxes: 1 where coordinates name whole pixels.
        max_detections: of an image and class that are looked at, best score first; None for all.
        ignored_iof: share of a detection inside an ignored region from which it does not count; None: the threshold.
        unit: what an image is.
        library: the one that computes the averages; "" for fledge itself.
        source: whose rule it is, and what is known of it.
    """

    name: str
    title: str
    iou: IouKind
    thresholds: tuple[float, ...]
    interpolation: Interpolation
    source: str
    matching: Matching = "best"
    strict: bool = True
    honours_difficult: bool = True
    pixel: float = 0.0
    max_detections: int | None = None
    ignored_iof: float | None = 0.5
    unit: Literal["image", "patch"] = "image"
    library: Literal["", "pycocotools"] = ""


_DOTA = Protocol(
    "dota",
    "DOTA-v1.0 Task 1",
    "quad",
    COCO_THRESHOLDS,
    "voc07",
    "DOTA_devkit, dota_evaluation_task1.py (threshold 0.5; the server reports 0.5, 0.75 and 0.5:0.95)",
)
_DOTA2 = replace(
    _DOTA,
    name="dota_task2",
    title="DOTA-v1.0 Task 2",
    iou="horizontal",
    pixel=1.0,
    source="DOTA_devkit, dota_evaluation_task2.py: hulls of the objects, widths and heights counted in whole pixels",
)
_VOC07 = Protocol(
    "voc07",
    "PASCAL VOC 2007, horizontal",
    "horizontal",
    (0.5,),
    "voc07",
    "VOC2007 development kit: 11 points, corners name whole pixels",
    strict=False,
    pixel=1.0,
)
_MMROTATE = Protocol(
    "dior_r",
    "DIOR-R",
    "box",
    (0.5, 0.75),
    "voc07",
    "MMRotate's matcher, as the DIOR-R baselines use it: IoU at or above the threshold, no object is difficult",
    strict=False,
    honours_difficult=False,
)
_COCO = Protocol(
    "coco",
    "COCO, horizontal",
    "horizontal",
    COCO_THRESHOLDS,
    "coco101",
    "pycocotools, COCOeval: 100 detections an image and class",
    matching="free",
    strict=False,
    honours_difficult=False,
    max_detections=100,
    ignored_iof=None,
    library="pycocotools",
)

_ALL = (
    _DOTA,
    _DOTA2,
    replace(
        _DOTA,
        name="dota_v15",
        title="DOTA-v1.5 Task 1",
        source="DOTA_devkit, dota-v1.5_evaluation_task1.py: no object is difficult",
        honours_difficult=False,
    ),
    replace(
        _DOTA2,
        name="dota_v15_task2",
        title="DOTA-v1.5 Task 2",
        source="DOTA_devkit, dota-v1.5_evaluation_task2.py: no object is difficult",
        honours_difficult=False,
    ),
    _MMROTATE,
    replace(
        _MMROTATE,
        name="hrsc_07",
        title="HRSC2016, VOC07",
        thresholds=(0.5,),
        source="MMRotate's HRSC2016 with 11 points; its reader leaves `difficult` unread. Give hrsc_12 beside it",
    ),
    replace(
        _MMROTATE,
        name="hrsc_12",
        title="HRSC2016, VOC12",
        thresholds=(0.5,),
        interpolation="voc12",
        source="MMRotate's HRSC2016 with the area under the curve; `difficult` is unread. Give hrsc_07 beside it",
    ),
    replace(
        _DOTA,
        name="ohd",
        title="OHD-SJTU, per patch",
        unit="patch",
        source="OHD-SJTU's eval_devkit, OHD_SJTU_evaluation_OBB.py, on patches of 600 px as MutDet evaluates",
    ),
    replace(
        _DOTA,
        name="fair1m",
        title="FAIR1M",
        thresholds=(0.5,),
        honours_difficult=False,
        source="mAP at IoU 0.5 by the DOTA devkit's rule; what the servers compute is not verified",
    ),
    Protocol(
        "box_area",
        "fledge's default",
        "box",
        COCO_THRESHOLDS,
        "voc12",
        "the DOTA devkit's matching on exact rotated boxes, with the area under the whole curve",
    ),
    _COCO,
    replace(
        _COCO,
        name="coco_oriented",
        title="COCO, oriented",
        iou="quad",
        max_detections=None,
        library="",
        source="COCOeval's matching and 101 points on the exact IoU of quadrilaterals, all detections",
    ),
    replace(
        _COCO,
        name="gersp_dota_val",
        title="DOTA-v1.0 validation patches, horizontal",
        thresholds=(0.5,),
        max_detections=1000,
        unit="patch",
        source="GeRSP: patches of 800 px at a stride of 640, COCO AP at IoU 0.5, at most 1,000 detections",
    ),
    _VOC07,
    replace(
        _VOC07,
        name="voc12",
        title="PASCAL VOC 2012, horizontal",
        interpolation="voc12",
        source="VOC2012 development kit: area under the envelope, corners name whole pixels",
    ),
)
PROTOCOLS: dict[str, Protocol] = {p.name: p for p in _ALL}
"""Every protocol by its name."""


def protocol_named(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"unknown protocol: {name}: one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
