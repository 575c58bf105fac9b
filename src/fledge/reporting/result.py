"""What an evaluation is reported from, whether a detector was run or its files were read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fledge.data.labels import DetectionDataset
from fledge.evaluation.average_precision import Metrics
from fledge.evaluation.case import Case
from fledge.evaluation.compare import Comparison
from fledge.evaluation.trust import Check


@dataclass(frozen=True, eq=False)
class Result:
    """An evaluation and all that has to stand beside its figures.

    Attributes:
        name: of what was evaluated: a run, or a file of detections.
        dataset: the split.
        case: its labels and the detections.
        metrics: the figures, by one protocol or more.
        about: where the detections are from, how they were suppressed and merged, and the hash of the labels.
        checks: what the figures' trust depends on.
        comparison: with another result, if that was asked for.
    """

    name: str
    dataset: DetectionDataset
    case: Case
    metrics: tuple[Metrics, ...]
    about: dict[str, Any]
    checks: tuple[Check, ...] = ()
    comparison: Comparison | None = None
