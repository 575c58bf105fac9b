"""What crosses the rooms of fledge: targets, batches, outputs and detections.

Shape letters used everywhere: B images, N boxes, L levels, A anchors, K classes, C channels, H, W.
Rotated boxes are (cx, cy, w, h, angle): pixels of one stated frame, radians, image axes (x right, y down), a positive
angle turns +x towards +y (clockwise on screen), canonical form ``w >= h`` and ``angle`` in [-pi/2, pi/2) ("le90").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fledge.errors import NumericError, UsageError
from fledge.geometry.boxes import corners
from fledge.geometry.georeference import corner_points, geojson_geometries, measures, to_lonlat, to_world


@dataclass(frozen=True)
class Targets:
    """The labelled objects of one image.

    Attributes:
        boxes: (N, 5) float32, le90, pixels of the image (or network input) they belong to.
        labels: (N,) int64 in 0…K-1; there is no background class.
        ignore: (N,) bool; an ignored object is never a positive and never a negative.
        difficult: (N,) bool; trained on, skipped by the protocols that say so.
        quads: (N, 4, 2) float32, the corners exactly as labelled, or None once a transform has made them meaningless.
        image_id: the image's stem, unique within a dataset.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    difficult: Tensor
    quads: Tensor | None = None
    image_id: str = ""

    def __len__(self) -> int:
        return self.boxes.shape[0]

    def select(self, index: Tensor) -> Targets:
        """The objects picked by a boolean mask or an index tensor of shape (N,) or (M,)."""
        return replace(
            self,
            boxes=self.boxes[index],
            labels=self.labels[index],
            ignore=self.ignore[index],
            difficult=self.difficult[index],
            quads=None if self.quads is None else self.quads[index],
        )

    def to(self, device: torch.device | str) -> Targets:
        """The same targets on another device."""
        return replace(
            self,
            boxes=self.boxes.to(device),
            labels=self.labels.to(device),
            ignore=self.ignore.to(device),
            difficult=self.difficult.to(device),
            quads=None if self.quads is None else self.quads.to(device),
        )

    @staticmethod
    def empty(image_id: str = "") -> Targets:
        """Targets of an image without objects."""
        return Targets(
            boxes=torch.zeros(0, 5),
            labels=torch.zeros(0, dtype=torch.int64),
            ignore=torch.zeros(0, dtype=torch.bool),
            difficult=torch.zeros(0, dtype=torch.bool),
            quads=torch.zeros(0, 4, 2),
            image_id=image_id,
        )


@dataclass(frozen=True)
class Batch:
    """What a training step sees.

    Attributes:
        images: (B, C, H, W) uint8, RGB unless the recipe names bands, padded on the right and bottom; the model
            normalises.
        sizes: (B, 2) int64, true (height, width) of each image before padding.
        targets: B ``Targets``, boxes in pixels of the padded frame.
    """

    images: Tensor
    sizes: Tensor
    targets: tuple[Targets, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = tuple(t.to(device) for t in self.targets)
        return Batch(self.images.to(device, non_blocking=True), self.sizes.to(device), moved)


@dataclass(frozen=True)
class Outputs:
    """What a dense detector's ``forward`` returns: plain tensors that losses, distillers and export read.

    Attributes:
        logits: L tensors (B, A, K, H, W), raw class scores of the A anchors of each cell (before the sigmoid).
        codes: L tensors (B, A, 5, H, W), raw box deltas in the same layout.
        features: named feature maps (B, C, H, W): backbone ``c3`` … ``c5`` and neck ``p3`` … ``p7``; maps of a head
            that a distiller reads are named ``cls_stack.p3`` and so on.
    """

    logits: tuple[Tensor, ...]
    codes: tuple[Tensor, ...]
    features: dict[str, Tensor]

    def float(self) -> Outputs:
        """The same in float32, for losses after a forward in half precision."""
        return Outputs(
            logits=tuple(x.float() for x in self.logits),
            codes=tuple(x.float() for x in self.codes),
            features={name: x.float() for name, x in self.features.items()},
        )


# So that torch.export takes a detector as it is.
torch.export.register_dataclass(Outputs)


def flatten_levels(levels: Sequence[Tensor]) -> Tensor:
    """L maps (B, A, D, H, W) as one (B, sum of H·W·A, D) tensor, in the anchors' order: level, row, column, anchor."""
    return torch.cat([x.permute(0, 3, 4, 1, 2).flatten(1, 3) for x in levels], dim=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, anything finer as it is: what losses compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True)
class Frame:
    """Where the pixels of some detections lie.

    Attributes:
        image_id: the image's stem.
        size: (height, width) of the image in pixels, if known.
        transform: affine (a, b, c, d, e, f) from pixels to world, x' = a·x + b·y + c, y' = d·x + e·y + f, if known.
        crs: the world's coordinate reference system (such as ``EPSG:3857``), if known.
    """

    image_id: str = ""
    size: tuple[int, int] | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    crs: str | None = None

    def has_lonlat(self) -> bool:
        """Whether its pixels have longitudes and latitudes."""
        if self.transform is None or self.crs is None:
            return False
        return to_lonlat(to_world(np.zeros((1, 2)), self.transform), self.crs) is not None


@dataclass(frozen=True)
class Detections:
    """The boxes a detector found in one image, best score first.

    Attributes:
        boxes: (N, 5) float32, le90, pixels of ``frame``.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, index into ``classes``.
        classes: the K class names.
        frame: the image the pixels belong to.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    frame: Frame = field(default_factory=Frame)

    def __len__(self) -> int:
        return self.boxes.shape[0]

    @property
    def corners(self) -> Tensor:
        """(N, 4, 2) corner points, clockwise on screen, in the same pixels as ``boxes``."""
        return corners(self.boxes)

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.classes[i] for i in self.labels.tolist()]

    def select(self, index: Tensor) -> Detections:
        """The detections picked by a boolean mask or an index tensor."""
        return replace(self, boxes=self.boxes[index], scores=self.scores[index], labels=self.labels[index])

    def to(self, device: torch.device | str) -> Detections:
        """The same detections on another device."""
        return replace(self, boxes=self.boxes.to(device), scores=self.scores.to(device), labels=self.labels.to(device))

    def above(self, score: float) -> Detections:
        """The detections that score at least ``score``."""
        return self.select(self.scores >= score)

    def to_dota(self) -> dict[str, list[str]]:
        """DOTA Task 1 lines by class name: ``image_id score x1 y1 x2 y2 x3 y3 x4 y4`` (every class has an entry)."""
        lines: dict[str, list[str]] = {name: [] for name in self.classes}
        for name, score, quad in zip(self.names, self.scores.tolist(), self.corners.flatten(1).tolist(), strict=True):
            xy = " ".join(f"{v:.2f}" for v in quad)
            lines[name].append(f"{self.frame.image_id} {score:.4f} {xy}")
        return lines

    def to_coco(self, image_id: int | str | None = None) -> list[dict[str, Any]]:
        """COCO result records: ``bbox`` is the horizontal hull (x, y, w, h), ``segmentation`` the oriented box.

        ``category_id`` counts from 1 in the order of ``classes``, as COCO's own files and the DOTA devkit do;
        ``category_name``, which COCO's tools pass over, says what it means.
        """
        quads = self.corners
        low, high = quads.amin(dim=1), quads.amax(dim=1)
        hulls = torch.cat([low, high - low], dim=1).tolist()
        rows = zip(self.labels.tolist(), self.scores.tolist(), hulls, quads.flatten(1).tolist(), strict=True)
        key = self.frame.image_id if image_id is None else image_id
        return [
            {
                "image_id": key,
                "category_id": label + 1,
                "category_name": self.classes[label],
                "score": round(score, 6),
                "bbox": [round(v, 3) for v in hull],
                "segmentation": [[round(v, 3) for v in quad]],
            }
            for label, score, hull, quad in rows
        ]

    def to_geojson(self) -> dict[str, Any]:
        """A GeoJSON FeatureCollection (RFC 7946: longitude and latitude) with class, score, angle (radians, le90, in
        the image), bearing (degrees from north), and side lengths in metres and pixels.

        Raises:
            UsageError: the frame has no reference system, or one without a relation to longitude and latitude.
            NumericError: a box or score is not finite.
        """
        boxes, frame = self.boxes.double().cpu().numpy(), self.frame
        if not (np.isfinite(boxes).all() and bool(self.scores.isfinite().all())):
            raise NumericError(f"not finite: {frame.image_id}: a score or box cannot be written")
        if frame.transform is None or frame.crs is None:
            raise UsageError(no_geojson(frame.image_id))
        shapes = geojson_geometries(corner_points(boxes), frame.transform, frame.crs)
        if shapes is None:
            raise UsageError(no_geojson(frame.image_id))
        columns = {k: v.tolist() for k, v in measures(boxes, frame.transform, frame.crs).items()}
        columns = {"class": self.names, "score": [round(v, 6) for v in self.scores.tolist()], **columns}
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        features = [
            {"type": "Feature", "geometry": shape, "properties": {**row, "image": frame.image_id}}
            for shape, row in zip(shapes, rows, strict=True)
        ]
        return {"type": "FeatureCollection", "features": features}


def no_geojson(name: str) -> str:
    """Why an image's boxes are no GeoJSON."""
    return (
        f"no longitude and latitude: {name}: the image has no coordinate reference system that leads to them, and "
        "GeoJSON holds nothing else: write pixels instead, as gpkg, csv, dota, coco or yolo"
    )


class Detector(Protocol):
    """The three verbs every detector has, and its class names."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The K class names, in the order of the labels."""

    def __call__(self, images: Tensor, targets: Any = None) -> Outputs:
        """Images to raw outputs."""

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Named, weighted scalars; their sum is the loss."""

    def decode(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Outputs to detections, one per image."""
