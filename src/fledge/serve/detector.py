"""The detector of a service: what a worker calls with an image's file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from fledge.data.scene_file import SceneFile
from fledge.errors import DataError
from fledge.inference.model import Image, WindowModel
from fledge.inference.scan import merged, scan_scene
from fledge.inference.settings import SceneSettings
from fledge.types import Detections
from fledge.visualize.images import to_rgb


class Watched:
    """A ``WindowModel`` that asks before each batch of windows whether to go on.

    Attributes:
        check: called before each batch; it raises to stop. One thread at a time may use the model.
    """

    def __init__(self, model: WindowModel) -> None:
        self._model = model
        self.classes, self.pixels = model.classes, model.pixels
        self.image_size, self.overlap = model.image_size, model.overlap
        self.fit, self.short_side = model.fit, model.short_side
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
        """The objects in an image or raster, as ``fledge detect`` finds them, under the image's ``name``.

        Args:
            path: the file.
            name: of the image.
            score: objects below are left out.
            check: called now and then; it may raise to stop.

        Raises:
            DataError: the file is refused, or cannot be read in parts.
            NumericError, ResourceError: see ``fledge.inference.scene.detect_scene``.
        """
        self.model.check = check
        with TemporaryDirectory(prefix="fledge-serve-") as folder:
            journal = Path(folder) / "journal"
            # Windows without data, or that cannot be read, never reach the model.
            scan = scan_scene(self.model, path, journal, SceneSettings(score=score), lambda *_: check())
            if scan.holes:
                raise DataError(f"unreadable image: {path}: {scan.holes[0].reason}: replace it by an intact copy")
            found = merged(journal)[0].detections()
        return replace(found, frame=replace(found.frame, image_id=name))

    def picture(self, path: Path, side: int) -> Image:
        """The whole image as the detector sees it, reduced to ``side`` pixels at most: (H, W, 3) RGB."""
        file = SceneFile(path, self.model.pixels)
        try:
            return to_rgb(file.overview(side))
        finally:
            file.close()
