"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a service.

    Attributes:
        max_bytes: of an uploaded file, counted while it arrives.
        max_pixels: of an image, read from its header before anything is decoded.
        timeout: seconds from the first byte of a request to its answer.
        concurrency: requests in work at once, the one that is computed and those that wait.
    """

    max_bytes: int = 100_000_000
    max_pixels: int = 100_000_000
    timeout: float = 60.0
    concurrency: int = 8


DEFAULT = Limits()
