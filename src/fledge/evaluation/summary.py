"""An evaluation as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.breakdown import breakdown
from fledge.evaluation.case import Case
from fledge.evaluation.cost import Cost
from fledge.evaluation.protocols import Protocol

IOU = {
    "quad": "exact IoU of the quadrilaterals as labelled",
    "box": "exact IoU of the smallest rotated rectangles",
    "horizontal": "IoU of the horizontal hulls",
}
INTERPOLATION = {
    "voc07": "11 points (VOC07)",
    "voc12": "area under the envelope (VOC12)",
    "coco101": "101 points (COCO)",
}
MATCHING = {
    "best": "the object a detection overlaps most, and no other (VOC, DOTA devkit)",
    "free": "the best object no better detection has taken (COCO)",
}


def evaluation_record(
    metrics: Metrics, cost: Cost | None = None, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Means, per-class values (0…1, None where undefined) and protocol under the names the reports use.

    Args:
        metrics: the averages.
        cost: of the detector, if it was measured.
        about: what else belongs beside the figures: suppression, the labels' hash.
    """
    figures = metrics.figures()
    classes = {
        name: {"objects": int(metrics.objects[k]), **{key: _number(column[k]) for key, column in figures.items()}}
        for k, name in enumerate(metrics.classes)
    }
    record = {
        **means(metrics),
        "classes": classes,
        "images": metrics.images,
        "protocol": protocol_record(metrics.protocol),
        **(about or {}),
    }
    if cost is not None:
        record["cost"] = {
            "parameters": cost.parameters,
            "flops": cost.flops,
            "milliseconds": round(cost.milliseconds, 3),
            "decode_milliseconds": None if cost.decode_milliseconds is None else round(cost.decode_milliseconds, 3),
            "input": list(cost.size),
            "threads": cost.threads,
        }
    return record


def protocol_record(protocol: Protocol) -> dict[str, Any]:
    """The rules in words, as they stand beside every figure."""
    return {
        "name": protocol.name,
        "title": protocol.title,
        "iou": IOU[protocol.iou] + (", widths and heights in whole pixels" if protocol.pixel else ""),
        "interpolation": INTERPOLATION[protocol.interpolation],
        "matching": MATCHING[protocol.matching],
        "threshold": "exceeded" if protocol.strict else "reached",
        "difficult": "count neither way" if protocol.honours_difficult else "are objects like others",
        "max_detections": protocol.max_detections,
        "unit": protocol.unit,
        "thresholds": list(protocol.thresholds),
        "source": protocol.source,
    }


def parts_record(case: Case, protocol: Protocol) -> dict[str, dict[str, dict[str, Any]]]:
    """Objects and means (0…1, None where undefined) by ``size`` and by ``aspect``, of each part by its name."""
    kinds: tuple[Literal["size", "aspect"], ...] = ("size", "aspect")
    return {
        kind: {
            name: {"objects": int(part.objects.sum()), **means(part)}
            for name, part in breakdown(case, protocol, kind).items()
        }
        for kind in kinds
    }


def means(metrics: Metrics) -> dict[str, float | None]:
    """AP50, AP75 and AP50:95, as far as the protocol has them, over the classes (0…1, None where undefined)."""
    return {name: _number(value) for name, value in metrics.summary().items()}


def gap(seen: Metrics, held_out: Metrics) -> dict[str, float | None]:
    """How much more is found in images trained on than in others: AP50, AP75 and AP50:95 of one minus the other."""
    least = held_out.summary()
    return {name: _number(value - least[name]) for name, value in seen.summary().items()}


def splits_record(records: dict[str, dict[str, Any]], metrics: dict[str, Metrics]) -> dict[str, Any]:
    """Several splits as plain values: a record of each, and the gap from the first to each of the others."""
    first, *others = metrics
    gaps = [{"split": first, "minus": other, **gap(metrics[first], metrics[other])} for other in others]
    return {"splits": records, "gaps": gaps}


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
