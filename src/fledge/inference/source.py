"""A scene's file during a long run: watched, and opened again if it goes away for a moment."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fledge.data.raster import PixelRule
from fledge.data.scene_file import SceneFile, fingerprint, local_file
from fledge.errors import DataError, ResourceError
from fledge.inference.windows import Window

Image = NDArray[np.uint8]

RETRIES = (1.0, 2.0, 4.0)  # seconds to wait for a file that has gone


class SceneSource:
    """A scene's file, opened again if it goes away for a moment (a network mount)."""

    def __init__(self, path: str | Path, rule: PixelRule, percentiles: tuple[float, float] | None) -> None:
        self.path = local_file(path)
        self.file = SceneFile(self.path, rule, percentiles)
        self.rule = self.file.rule
        self.fingerprint = fingerprint(self.path)
        self._status = self._stat()

    def _stat(self) -> tuple[int, int]:
        status = self.path.stat()
        return status.st_size, status.st_mtime_ns

    def check(self) -> None:
        """Whether the file is still there and the same.

        Raises:
            DataError: it changed.
            ResourceError: it has gone, and stayed away.
        """
        for wait in (*RETRIES, None):
            try:
                status = self._stat()
            except OSError as error:
                if wait is None:
                    raise ResourceError(
                        f"scene has gone: {self.path}: {error.strerror}: bring it back and run the same command again; "
                        "it goes on from the last finished window"
                    ) from error
                time.sleep(wait)
                continue
            if status != self._status:
                raise DataError(
                    f"scene changed: {self.path}: it was written to meanwhile: add --restart to begin again"
                )
            return

    def read(self, window: Window) -> tuple[Image, bool] | str:
        """Pixels of a window and whether it is empty, or why it cannot be read."""
        place = window.x, window.y, window.width, window.height
        try:
            piece = self.file.read(*place)
        except DataError:
            self.check()
            self.file.close()  # a handle from before the file went away stays broken
            try:
                self.file = SceneFile(self.path, self.rule)
                piece = self.file.read(*place)
            except DataError as error:
                return str(error)
        return piece.pixels, piece.empty
