"""The detector of a service: what a worker calls with an image's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.inference.model import Image, WindowModel
from fledge.inference.predictor import Predictor
from fledge.types import Detections


class Watched:
    """A ``WindowModel`` that asks before each batch of windows whether to go on.

    Attributes:
        check: called before each batch; it raises to stop. One thread at a time may use the model.
    """

    def __init__(self, model: WindowModel) -> None:
        self._model = model
        self.classes, self.pixels = model.classes, model.pixels
        self.image_size, self.overlap, self.fit = model.image_size, model.overlap, model.fit
        self.pixel_scale, self.nms_iou, self.fingerprint = model.pixel_scale, model.nms_iou, model.fingerprint
        self.check: Callable[[], None] = lambda: None

    def run(self, images: Image, sizes: NDArray[np.int64]) -> list[Detections]:
        """See ``WindowModel``."""
        self.check()
        return self._model.run(images, sizes)


class ServedDetector:
    """A detector under a name that may be shown.

    Args:
        model: what computes.
        name: of its run folder or file, without the folders above.
    """

    def __init__(self, model: WindowModel, name: str) -> None:
        self.model, self.name = Watched(model), name

    def detect(self, path: Path, name: str, score: float, check: Callable[[], None]) -> Detections:
        """The objects in an image, in its pixels, under the image's ``name``; ``check`` may raise to stop it."""
        self.model.check = check
        found = Predictor(self.model).detect(path, score)
        return replace(found, frame=replace(found.frame, image_id=name))
