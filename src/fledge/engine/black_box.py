"""What is kept of a step that produced a number that is not finite: one file with weights, batch and settings.

``fledge replay FILE`` runs it again on a CPU. The file is a safetensors file; nothing in it can run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fledge.errors import DataError
from fledge.files import write_bytes
from fledge.types import Batch, Targets

_KEY = "fledge.black_box"
_FIELDS = ("boxes", "labels", "ignore", "difficult")


@dataclass(frozen=True)
class BlackBox:
    """A step as it was before it failed.

    Attributes:
        student: state dict of the student.
        distiller: state dict of the distiller; empty without one.
        batch: the images and targets.
        meta: the checkpoint's ``meta`` (recipe, classes, …), and ``step``, ``precision`` and ``message``.
    """

    student: dict[str, Tensor]
    distiller: dict[str, Tensor]
    batch: Batch
    meta: dict[str, Any]


def write_black_box(path: Path, box: BlackBox) -> None:
    """Write the file atomically.

    Raises:
        ResourceError: the folder or disk refuses.
    """
    tensors = {f"student/{k}": v for k, v in box.student.items()}
    tensors |= {f"distiller/{k}": v for k, v in box.distiller.items()}
    tensors |= {"batch/images": box.batch.images, "batch/sizes": box.batch.sizes}
    for i, target in enumerate(box.batch.targets):
        tensors |= {f"batch/{i}/{name}": getattr(target, name) for name in _FIELDS}
    meta = {
        **box.meta,
        "image_ids": [t.image_id for t in box.batch.targets],
        "draws": [t.draw for t in box.batch.targets],
    }
    data = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, {_KEY: json.dumps(meta)})
    write_bytes(path, data)


def read_black_box(path: Path) -> BlackBox:
    """Read such a file.

    Raises:
        DataError: it is none, or damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            meta: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        names, draws = meta.pop("image_ids"), meta.pop("draws", None)  # none in a file from before fledge kept them
        targets = tuple(
            Targets(**{key: tensors[f"batch/{i}/{key}"] for key in _FIELDS}, image_id=str(name), draw=int(draw))
            for i, (name, draw) in enumerate(zip(names, draws or [0] * len(names), strict=True))
        )
        batch = Batch(tensors["batch/images"], tensors["batch/sizes"], targets)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"not a saved step: {path}: {error}: give a nonfinite-….safetensors of a run") from error
    return BlackBox(_under("student/", tensors), _under("distiller/", tensors), batch, meta)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def joined_batch(parts: list[Batch]) -> Batch:
    """The parts of one step as one batch, padded with zeros to a common size."""
    height, width = (max(p.images.shape[side] for p in parts) for side in (2, 3))
    images = [
        torch.nn.functional.pad(p.images, (0, width - p.images.shape[3], 0, height - p.images.shape[2])) for p in parts
    ]
    targets = tuple(target for p in parts for target in p.targets)
    return Batch(torch.cat(images), torch.cat([p.sizes for p in parts]), targets)
