from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from fledge.models.sam.frame import MEAN, STD, masks_to_image, prompts_to_frame, scaled_size, to_frame, valid_cells


def image(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("size", "scaled", "cells"),
    [
        ((1024, 1024), (1024, 1024), (64, 64)),
        ((600, 800), (768, 1024), (48, 64)),
        ((1500, 1000), (1024, 683), (64, 43)),
        ((2048, 3), (1024, 2), (64, 1)),  # 1.5 is rounded up
        ((1, 5000), (1, 1024), (1, 64)),
        ((1, 1), (1024, 1024), (64, 64)),
    ],
)
def test_sizes(size: tuple[int, int], scaled: tuple[int, int], cells: tuple[int, int]) -> None:
    assert (scaled_size(*size), valid_cells(*size)) == (scaled, cells)


@given(st.integers(1, 9000), st.integers(1, 9000))
def test_the_long_side_fills_the_frame(height: int, width: int) -> None:
    rows, columns = scaled_size(height, width)
    assert max(rows, columns) == 1024
    assert min(rows, columns) == max(1, int(min(height, width) * 1024 / max(height, width) + 0.5))
    assert valid_cells(height, width) == (-(-rows // 16), -(-columns // 16))


@pytest.mark.parametrize("size", [(600, 800), (1500, 1000), (97, 333), (1024, 700)])
def test_pixels_are_those_of_pillow(size: tuple[int, int]) -> None:
    """Within one grey level, of which few are off; zeros beyond the image, also after normalising."""
    given = image(*size)
    rows, columns = scaled_size(*size)
    framed = to_frame(given)
    assert (framed.shape, framed.dtype) == ((3, 1024, 1024), torch.float32)
    assert not framed[:, rows:].any()
    assert not framed[:, :, columns:].any()
    pillow = Image.fromarray(given.permute(1, 2, 0).numpy()).resize((columns, rows), Image.Resampling.BILINEAR)
    expected = torch.from_numpy(np.array(pillow)).permute(2, 0, 1).double()
    grey = framed[:, :rows, :columns].double() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    off = (grey - expected).abs()
    assert off.max() < 1.001
    assert off.mean() < 0.2


def test_a_square_of_1024_is_only_normalised() -> None:
    given = image(1024, 1024)
    for channel in range(3):
        expected = (given[channel].float() - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(to_frame(given)[channel], expected)


def test_prompts_go_by_each_axis() -> None:
    moved = prompts_to_frame(torch.tensor([[10.0, 20.0]]), height=1500, width=1000)
    torch.testing.assert_close(moved, torch.tensor([[10 * 683 / 1000, 20 * 1024 / 1500]]))


@pytest.mark.parametrize("size", [(60, 80), (150, 100)])
def test_masks_come_back_where_they_were(size: tuple[int, int]) -> None:
    """A ramp over the frame is the same ramp over the image."""
    ramp = (torch.arange(256) + 0.5) / 256
    logits = torch.stack([ramp[:, None].expand(256, 256), ramp[None].expand(256, 256)])[None]
    back = masks_to_image(logits, *size)
    assert back.shape == (1, 2, *size)
    rows, columns = scaled_size(*size)
    y = (torch.arange(size[0]) + 0.5) / size[0] * rows / 1024
    x = (torch.arange(size[1]) + 0.5) / size[1] * columns / 1024
    inner = slice(2, -2)
    torch.testing.assert_close(back[0, 0, inner], y[inner, None].expand(-1, size[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(back[0, 1, :, inner], x[None, inner].expand(size[0], -1), atol=1e-4, rtol=0)
