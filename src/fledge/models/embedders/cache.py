"""Maps of images kept on disk, so that a frozen network sees each image once.

A map is found by what was embedded: the pixels as the network sees them, after every augmentation. A flipped image is
another image and has an entry of its own; a random crop or scale is never seen again, and a cache is of no use there.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fledge.errors import NumericError, ResourceError
from fledge.files import readable_size, remove_orphans, write_bytes

_NAME, _SUM = "map", "crc32"


def content_key(image: Tensor) -> str:
    """Name of an image (C, h, w) uint8: a hash of its shape and pixels."""
    digest = hashlib.sha256(f"{tuple(image.shape)}".encode())
    digest.update(image.cpu().flatten().numpy().data)
    return digest.hexdigest()


class EmbeddingCache:
    """A folder of maps in half precision, one file each, for one network.

    Several processes may share it: a file appears whole or not at all, and all would write the same. An entry that is
    damaged counts as absent and is written again. When the limit is reached, or the disk refuses, nothing more is
    written, and what is there is still used.

    Args:
        folder: of this and other caches; made if it is not there.
        identity: of the network; each has a folder of its own inside.
        limit: bytes that may lie there.

    Attributes:
        size: bytes of the entries, as far as this process knows.
        hits, misses: maps found and not found since the start.
        problem: why nothing more is written, or nothing.
    """

    def __init__(self, folder: Path, identity: str, limit: int) -> None:
        self.folder = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self.limit = limit
        remove_orphans(self.folder)
        self.size = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        self.hits = self.misses = 0
        self.problem = ""

    def get(self, key: str, channels: int) -> Tensor | None:
        """The map (channels, rows, columns) float32 of a key, or None where there is none that is whole."""
        found = self._read(self._path(key))
        if found is None or found.ndim != 3 or found.shape[0] != channels:
            self.misses += 1
            return None
        self.hits += 1
        return found.float()

    def put(self, key: str, values: Tensor) -> Tensor:
        """Keep a map (C, rows, columns), and return it as ``get`` will: rounded to half precision.

        Raises:
            NumericError: it holds numbers that half precision does not.
        """
        half = values.half()
        if not half.isfinite().all():
            raise NumericError(
                f"embedding cache: {self.folder}: a map reaches {float(values.abs().max()):.3g}, half precision only "
                "65504: train without the cache"
            )
        self._write(self._path(key), half.cpu().contiguous())
        return half.float()

    def describe(self) -> str:
        """A few words for a report."""
        text = f"cached: {self.hits} of {self.hits + self.misses} maps found, {readable_size(self.size)} on disk"
        return text + (f", no more written: {self.problem}" if self.problem else "")

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _read(self, path: Path) -> Tensor | None:
        try:
            with safe_open(path, "pt") as file:
                values: Tensor = file.get_tensor(_NAME)
                expected = (file.metadata() or {}).get(_SUM)
        except (SafetensorError, OSError):
            return None
        return values if expected == _checksum(values) else None

    def _write(self, path: Path, half: Tensor) -> None:
        data = save({_NAME: half}, metadata={_SUM: _checksum(half)})
        old = path.stat().st_size if path.is_file() else 0
        if not self.problem and self.size - old + len(data) > self.limit:
            self.problem = f"the limit of {readable_size(self.limit)} is reached"
        if self.problem:
            return
        try:
            write_bytes(path, data)
        except ResourceError as error:
            self.problem = str(error)
            return
        self.size += len(data) - old


def _checksum(values: Tensor) -> str:
    return f"{tuple(values.shape)} {zlib.crc32(values.flatten().numpy().data):08x}"
