"""Pictures as files in memory, and as data URIs, so that a page needs no file beside it."""

from __future__ import annotations

import base64
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from fledge.errors import ResourceError

Image = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""

_QUALITY = {"webp": cv2.IMWRITE_WEBP_QUALITY, "jpeg": cv2.IMWRITE_JPEG_QUALITY}


Format = Literal["webp", "jpeg", "png"]


def to_rgb(image: Image) -> Image:
    """What a picture shows of an image (H, W, C): its first three channels, or its first one as grey if C < 3."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def encode(image: Image, format: Format = "webp", quality: int = 85) -> bytes:
    """An (H, W, 3) uint8 RGB image as the bytes of a file.

    ``quality`` in 1…100 is that of WebP and JPEG; PNG is lossless and has none.

    Raises:
        ResourceError: the image is empty, or larger than the format allows (WebP: 16383 pixels a side).
    """
    flags = [_QUALITY[format], quality] if format in _QUALITY else []
    bgr = np.ascontiguousarray(image[..., ::-1])
    try:
        done, encoded = cv2.imencode(f".{format}", bgr, flags)
    except cv2.error:
        done = False
    if not done:
        size = "×".join(map(str, image.shape))
        raise ResourceError(f"cannot encode picture: {size} as {format}: scale it down or choose another format")
    return encoded.tobytes()


def data_uri(image: Image, format: Format = "webp", quality: int = 85) -> str:
    """``encode`` as ``data:image/…;base64,…``; the same arguments and errors."""
    return f"data:image/{format};base64,{base64.b64encode(encode(image, format, quality)).decode('ascii')}"
