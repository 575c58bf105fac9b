from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.squares import Image, SquareFinder

from fledge.inference.model import TorchModel
from fledge.serve.app import make_app
from fledge.serve.detector import ServedDetector
from fledge.serve.guard import LOOPBACK
from fledge.serve.limits import Limits
from fledge.types import Detections

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")


def squares(height: int = 120, width: int = 160) -> Image:
    """Grey with a red rectangle of 30x20 pixels at (20, 30) and a green one of 10x24 at (100, 60)."""
    image = np.full((height, width, 3), 90, np.uint8)
    image[30:50, 20:50] = (255, 0, 0)
    image[60:84, 100:110] = (0, 255, 0)
    return image


def encoded(image: Image, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


class HeldModel(TorchModel):
    """A ``SquareFinder`` that computes only while ``go`` is set, and notes the batches it began."""

    def __init__(self) -> None:
        super().__init__(SquareFinder(), 96, 40, False, 1.0, 0.1, torch.device("cpu"))
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Semaphore(0)
        self.batches = 0

    def run(self, images: Image, sizes: NDArray[np.int64]) -> list[Detections]:
        self.batches += 1
        self.begun.release()
        assert self.go.wait(20)
        return super().run(images, sizes)


@pytest.fixture
def model() -> HeldModel:
    return HeldModel()


@pytest.fixture
def client(model: HeldModel) -> Iterator[Callable[..., Any]]:
    """``client(root=None, **limits)``: a client of a service over ``model`` on the loopback."""
    from fastapi.testclient import TestClient

    with ExitStack() as stack:

        def make(root: Path | None = None, **limits: Any) -> TestClient:
            app = make_app(ServedDetector(model, "squares"), Limits(**limits), root, LOOPBACK)
            made = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
            return stack.enter_context(made)

        yield make
        model.go.set()


@pytest.fixture
def form() -> Callable[..., dict[str, Any]]:
    """Keyword arguments of a post that uploads an image."""

    def make(content: bytes | None = None, name: str = "a scene.png") -> dict[str, Any]:
        data = encoded(squares()) if content is None else content
        return {"files": {"image": (name, io.BytesIO(data), "image/png")}}

    return make
