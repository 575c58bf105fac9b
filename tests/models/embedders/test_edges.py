from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fledge.models.embedders.edges import Edges


def slow(image: Tensor) -> np.ndarray:
    """Cell by cell and pixel by pixel, in float64."""
    red, green, blue = image.double().numpy() / 255
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    height, width = light.shape
    found = np.zeros((3, math.ceil(height / 8), math.ceil(width / 8)))
    for channel, step in enumerate((1, 2, 4)):
        rows, columns = math.ceil(height / step), math.ceil(width / step)
        means = np.array(
            [
                [light[r * step : (r + 1) * step, c * step : (c + 1) * step].mean() for c in range(columns)]
                for r in range(rows)
            ]
        )

        def at(r: int, c: int, means: np.ndarray = means) -> float:
            return float(means[min(max(r, 0), means.shape[0] - 1), min(max(c, 0), means.shape[1] - 1)])

        length = np.zeros((rows, columns))
        for r in range(rows):
            for c in range(columns):
                across = sum(w * (at(r + d, c + 1) - at(r + d, c - 1)) for d, w in ((-1, 1), (0, 2), (1, 1)))
                down = sum(w * (at(r + 1, c + d) - at(r - 1, c + d)) for d, w in ((-1, 1), (0, 2), (1, 1)))
                length[r, c] = math.hypot(across, down) / 8
        n = 8 // step
        for r, c in np.ndindex(found.shape[1:]):
            found[channel, r, c] = length[r * n : (r + 1) * n, c * n : (c + 1) * n].mean()
    return found


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (1, 1), (3, 40), (8, 8)])
def test_against_a_slow_one(size: tuple[int, int]) -> None:
    image = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    (values,) = Edges().maps([image])
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values.numpy(), slow(image), atol=1e-6)


def test_a_step_and_no_step() -> None:
    flat = torch.full((3, 32, 32), 200, dtype=torch.uint8)
    step = torch.zeros(3, 32, 32, dtype=torch.uint8)
    step[:, :, 16:] = 255
    even, stepped = Edges().maps([flat, step])
    assert even.abs().max() < 1e-6
    # 1/2 in the two columns beside the step, each in a cell of its own; the whole reach of the scales is 8, 4 and 2.
    for channel, expected in enumerate((0.5 / 8, 0.5 / 4, 0.5 / 2)):
        torch.testing.assert_close(stepped[channel, :, 1:3], torch.full((4, 2), expected))
        assert stepped[channel, :, [0, 3]].abs().max() < 1e-6


def test_images_of_several_sizes_in_their_order() -> None:
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, h, 16), generator=generator, dtype=torch.uint8) for h in (16, 24, 16, 9)]
    together = Edges().maps(images)
    for image, values in zip(images, together, strict=True):
        torch.testing.assert_close(values, Edges().maps([image])[0])
    assert Edges().maps([]) == []


def test_what_it_says() -> None:
    assert Edges().describe() == "edges: Sobel magnitude of luminance over 1, 2, 4 pixels; no weights"
    assert not list(Edges().parameters())
