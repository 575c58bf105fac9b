"""Pictures small enough for a page."""

from __future__ import annotations

from fledge.visualize.draw import resize
from fledge.visualize.images import Image


def reduced(image: Image, side: int) -> Image:
    """An (H, W, 3) image whose longer side is at most ``side`` pixels."""
    return resize(image, min(1.0, side / max(image.shape[:2])))
