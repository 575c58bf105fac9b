"""Exported detectors as ``torch.export`` programs (``.pt2``).

PyTorch reads such files with pickle, so they can run code when they are opened: fledge opens only the one it has just
written, to prove it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fledge.errors import UsageError
from fledge.export.onnx_file import Arrays
from fledge.export.record import KEY, Record, read_record
from fledge.export.trace import quiet

LEAST = 129
"""Side in pixels from which a program recorded for any size holds: every level up to stride 128 has two rows."""


def write_program(program: Any, record: Record, path: Path) -> None:
    """Write an ``ExportedProgram`` with the record as the extra file ``fledge``, and the class names as ``names``."""
    with quiet():
        torch.export.save(program, path, extra_files={KEY: record.text(), "names": json.dumps(list(record.classes))})


class ProgramRunner:
    """A program that this process wrote: images (B, C, H, W) uint8 to the four outputs of the graph."""

    def __init__(self, program: Any, any_size: bool) -> None:
        self._module, self._least = program.module(), LEAST if any_size else 1

    @classmethod
    def open(cls, path: Path) -> tuple[Record, ProgramRunner]:
        """The record and the runner of a file."""
        texts = {KEY: ""}
        with quiet():
            program = torch.export.load(path, extra_files=texts)
        record = read_record(texts[KEY], path)
        return record, cls(program, record.size is None)

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> Arrays:
        """Run, image by image; see ``DetectorGraph.forward``."""
        if min(images.shape[2:]) < self._least:
            raise UsageError(
                f"too small: {images.shape[3]}x{images.shape[2]} pixels: a torch-export file for any size takes sides "
                f"from {LEAST} pixels: leave --dynamic out, or give larger images"
            )
        outputs = [self._module(torch.from_numpy(images[i : i + 1])) for i in range(len(images))]
        longest = max(boxes.shape[1] for boxes, *_ in outputs)
        return [np.concatenate([_filled(part[k].numpy(), longest) for part in outputs]) for k in range(4)]


def _filled(x: NDArray[Any], length: int) -> NDArray[Any]:
    """(1, N, ...) with zeros up to ``length``; (1,) as it is."""
    if x.ndim == 1:
        return x
    return np.pad(x, [(0, 0), (0, length - x.shape[1])] + [(0, 0)] * (x.ndim - 2))
