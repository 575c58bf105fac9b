"""What an exported file says of itself, and the seal that shows whether a byte of it has changed.

The seal is the SHA-256 of the file with the seal's own 64 digits read as zeros, so that it can stand inside the file,
whatever the format. It finds damage; it does not prove who wrote the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import fledge
from fledge.data.labels import class_index
from fledge.data.raster import PixelRule
from fledge.errors import DataError, ResourceError

KEY = "fledge"
"""The name under which the record stands in the metadata of a file."""

MAX_BYTES = 2**31 - 1  # of a protocol buffer, and so of an ONNX file
_MAX_RECORD = 1 << 20

Runtime = Literal["onnx", "openvino", "torch-export"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]

_BLANK = "0" * 64
_SEAL = re.compile(rb'seal(?:"|&quot;): (?:"|&quot;)([0-9a-f]{64})(?:"|&quot;)')


class Record(BaseModel):
    """Everything a program needs to feed an exported detector and to read what it returns.

    Attributes:
        format: of this record.
        version: of fledge.
        runtime, precision: what was asked for.
        size: (height, width) of the images of a file for one size and one image at a time; None: any.
        classes: the K class names, in the order of the labels.
        image_size, overlap, fit, short_side, pixel_scale, nms_iou: as in ``WindowModel``.
        score_threshold, max_detections: what the graph keeps.
        bands, pixel_range: how image files become bytes; see ``PixelRule``.
        mean, std: (C,) with which the graph normalises bytes.
        padding: (C,) what the graph puts beyond the border of an image.
        recipe: every setting of the training.
        weights: SHA-256 of the trained weights.
        seal: of the file.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    format: Literal[1] = 1
    version: str = fledge.__version__
    runtime: Runtime
    precision: Precision
    size: tuple[int, int] | None
    classes: tuple[str, ...]
    image_size: int = Field(ge=32, le=1 << 16)
    overlap: int = Field(ge=0)
    fit: bool
    short_side: int = Field(0, ge=0)
    pixel_scale: float = Field(gt=0)
    nms_iou: float = Field(ge=0, le=1)
    score_threshold: float = Field(ge=0, le=1)
    max_detections: int = Field(ge=1)
    bands: tuple[int, ...]
    pixel_range: tuple[float, ...] = Field(max_length=2)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: tuple[int, ...]
    recipe: dict[str, Any]
    weights: str = Field(pattern="^[0-9a-f]{64}$")
    seal: str = Field(default=_BLANK, pattern="^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overlap >= self.image_size or len(self.pixel_range) == 1 or not self.classes:
            raise ValueError("its overlap, pixel_range or classes cannot be")
        if not len(self.mean) == len(self.std) == len(self.padding) == self.pixels.channels:
            raise ValueError("its mean, std and padding are not one number a channel")
        class_index(self.classes)  # names become file names: a forged file must not choose paths
        return self

    @property
    def pixels(self) -> PixelRule:
        """How image files become bytes."""
        between = (self.pixel_range[0], self.pixel_range[1]) if self.pixel_range else None
        return PixelRule(self.bands, between)

    def text(self) -> str:
        """As JSON in one line."""
        return json.dumps(self.model_dump(mode="json"), ensure_ascii=True, allow_nan=False)


def read_record(text: str, path: Path) -> Record:
    """The record from the metadata of a file.

    Raises:
        DataError: it is not one that fledge writes.
    """
    try:
        if len(text) > _MAX_RECORD:
            raise ValueError("its record is too long")
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise refusal(path, f"{where}: {first['msg']}") from None
    except (ValueError, DataError) as error:
        raise refusal(path, str(error)) from None


def refusal(path: Path, what: str) -> DataError:
    """The error for a file that is not what ``fledge export`` wrote."""
    return DataError(f"cannot read exported model: {path}: {what}: export it again with `fledge export RUN`")


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a file of bounded size.

    Raises:
        DataError: it is too large.
        ResourceError: it cannot be read.
    """
    try:
        if (size := path.stat().st_size) > limit:
            raise refusal(path, f"{size} bytes are more than a model can have")
        return path.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read: {path}: {error.strerror}: check the file and its rights") from error


def sealed(data: bytes, more: bytes = b"") -> bytes:
    """``data`` with the blank seal of its record filled in, over itself and ``more``."""
    start, digits = _seal(data)
    if digits != _BLANK.encode():
        raise ValueError("sealed already")
    return data[:start] + _digest(data, more) + data[start + 64 :]


def check_seal(path: Path, data: bytes, more: bytes = b"") -> None:
    """Whether ``data`` (and ``more``) are what was sealed.

    Raises:
        DataError: there is no seal, so fledge did not write the file, or it does not fit: the file is damaged.
    """
    try:
        start, digits = _seal(data)
    except ValueError:
        raise refusal(path, "fledge did not write it, or it was cut short") from None
    if _digest(data[:start] + _BLANK.encode() + data[start + 64 :], more) != digits:
        raise refusal(path, "it is damaged: its bytes have changed since it was written")


def _seal(data: bytes) -> tuple[int, bytes]:
    """Where the digits of the only seal begin, and the digits."""
    found = list(_SEAL.finditer(data))
    if len(found) != 1:
        raise ValueError(f"{len(found)} seals")
    return found[0].start(1), found[0][1]


def _digest(data: bytes, more: bytes) -> bytes:
    digest = hashlib.sha256(data)
    digest.update(more)
    return digest.hexdigest().encode()
