from __future__ import annotations

import math

import pytest
import torch

from fledge.errors import UsageError
from fledge.geometry import AnchorGrid


def test_one_cell_by_hand() -> None:
    (anchors,) = AnchorGrid(strides=(8,), scale=4, octaves=2, ratios=(1.0, 4.0)).grids([(1, 1)], "cpu")
    big = 32 * math.sqrt(2)
    expected = [[4, 4, 32, 32, 0], [4, 4, big, big, 0], [4, 4, 16, 64, 0], [4, 4, big / 2, big * 2, 0]]
    torch.testing.assert_close(anchors, torch.tensor(expected))


def test_order_is_row_column_anchor() -> None:
    grid = AnchorGrid(strides=(16,))
    (anchors,) = grid.grids([(2, 3)], "cpu")
    assert grid.per_cell == 9
    assert anchors.shape == (2 * 3 * 9, 5)
    cells = anchors.view(2, 3, 9, 5)
    assert cells[:, :, 0, 0].tolist() == [[8, 24, 40], [8, 24, 40]]
    assert cells[:, :, 8, 1].tolist() == [[8, 8, 8], [24, 24, 24]]
    assert torch.equal(cells[0, 0, :, 2:], cells[1, 2, :, 2:])


def test_default_sizes() -> None:
    levels = AnchorGrid().grids([(2, 2)] * 5, "cpu", torch.float64)
    for stride, level in zip((8, 16, 32, 64, 128), levels, strict=True):
        cell = level[:9].view(3, 3, 5)  # ratio, octave
        for octave in range(3):
            area = torch.full((3,), (4 * stride * 2 ** (octave / 3)) ** 2, dtype=torch.float64)
            torch.testing.assert_close(cell[:, octave, 2] * cell[:, octave, 3], area)
        ratios = torch.tensor([0.5, 1, 2], dtype=torch.float64)[:, None].expand(3, 3)
        torch.testing.assert_close(cell[..., 3] / cell[..., 2], ratios)
        assert (level[:, 4] == 0).all()


def test_grids_are_remembered_by_size_and_dtype() -> None:
    grid = AnchorGrid(strides=(8, 16))
    first = grid.grids([(4, 4), (2, 2)], "cpu")
    assert grid.grids([(4, 4), (2, 2)], torch.device("cpu"))[0] is first[0]
    assert grid.grids([(4, 4), (2, 2)], "cpu", torch.float64)[0].dtype == torch.float64
    assert grid.grids([(4, 2), (2, 2)], "cpu")[0].shape == (4 * 2 * 9, 5)
    for size in range(40):
        grid.grids([(size, 1), (1, 1)], "cpu")
    assert torch.equal(grid.grids([(4, 4), (2, 2)], "cpu")[0], first[0])


def test_empty_level_and_wrong_count() -> None:
    grid = AnchorGrid(strides=(8, 16))
    assert grid.grids([(0, 4), (1, 1)], "cpu")[0].shape == (0, 5)
    with pytest.raises(UsageError, match="1 feature maps for 2 strides"):
        grid.grids([(4, 4)], "cpu")
