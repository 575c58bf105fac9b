"""An evaluation as plain JSON values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.cost import Cost


def evaluation_record(metrics: Metrics, cost: Cost) -> dict[str, Any]:
    """Means, per-class values (0…1, None where undefined), protocol and cost under the names the reports use."""
    half, strict = metrics.thresholds.index(0.5), metrics.thresholds.index(0.75)
    classes = {
        name: {
            "objects": int(metrics.objects[k]),
            "AP50": _number(metrics.ap[k, half]),
            "AP75": _number(metrics.ap[k, strict]),
            "AP50:95": _number(np.mean(metrics.ap[k])),
        }
        for k, name in enumerate(metrics.classes)
    }
    return {
        **means(metrics),
        "classes": classes,
        "images": metrics.images,
        "protocol": {
            "iou": "exact rotated IoU",
            "interpolation": metrics.interpolation,
            "matching": "the object a detection overlaps most (DOTA devkit)",
            "thresholds": list(metrics.thresholds),
        },
        "cost": {
            "parameters": cost.parameters,
            "flops": cost.flops,
            "milliseconds": round(cost.milliseconds, 3),
            "decode_milliseconds": round(cost.decode_milliseconds, 3),
            "input": list(cost.size),
            "threads": cost.threads,
        },
    }


def means(metrics: Metrics) -> dict[str, float | None]:
    """AP50, AP75 and AP50:95 over the classes (0…1, None where undefined)."""
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
