from __future__ import annotations

import cv2
import numpy as np
import pytest

from fledge.errors import NumericError
from fledge.visualize.heat import heat

DARK, LIGHT = ((cv2.applyColorMap(np.array([[v]], np.uint8), cv2.COLORMAP_VIRIDIS)[0, 0, ::-1]) for v in (0, 255))


def test_cells_stay_cells_from_dark_to_light() -> None:
    picture = heat(np.array([[-3.0, 7.0], [2.0, -3.0]]), (4, 6))
    assert picture.shape == (4, 6, 3)
    assert (picture[:2, :3] == DARK).all()
    assert (picture[:2, 3:] == LIGHT).all()
    middle = picture[2:, :3].reshape(-1, 3)
    assert (middle == middle[0]).all()
    assert DARK.astype(int).sum() < middle[0].astype(int).sum() < LIGHT.astype(int).sum()


@pytest.mark.parametrize("value", [0.0, 5.0, -1e30])
def test_a_constant_map_is_dark(value: float) -> None:
    assert (heat(np.full((3, 2), value), (3, 2)) == DARK).all()


def test_one_cell_does_not_darken_all_others() -> None:
    values = np.linspace(0, 1, 400).reshape(20, 20)
    values[0, 0] = 1e6
    assert len(np.unique(heat(values, (20, 20)).reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(NumericError, match="cannot draw map"):
        heat(np.array([[0.0, bad]]), (2, 2))
