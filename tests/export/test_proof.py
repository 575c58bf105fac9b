"""What an exported file is shown, and compared on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fledge.export.proof import same_boxes
from fledge.types import Detections

from .conftest import make_record
from .test_parity import detections


class Looking:
    """A model that finds the same boxes everywhere, and remembers what it was shown."""

    def __init__(self) -> None:
        self.shown: list[list[tuple[int, int]]] = []

    def run(self, images: NDArray[np.uint8], sizes: NDArray[np.int64]) -> list[Detections]:
        self.shown.append([(int(h), int(w)) for h, w in sizes])
        return [detections()] * len(sizes)


def test_windows_shown_together_have_one_size() -> None:
    """Padded to the largest, a smaller one would have another border in the reference than in the file."""
    shapes = [(64, 96), (96, 64), (64, 96), (64, 96), (96, 64), (96, 96)]
    named = [(str(k), np.zeros((*shape, 3), np.uint8)) for k, shape in enumerate(shapes)]
    model: Any = Looking()
    other: Any = Looking()
    agreement = same_boxes(model, other, make_record(size=(96, 96)), named, (1, 2))
    assert (agreement.images, agreement.differences) == (12, [])
    lying, upright = (64, 96), (96, 64)
    assert model.shown[6:] == [[lying, lying], [lying], [upright, upright], [(96, 96)]]
    assert other.shown == model.shown
