from __future__ import annotations

import numpy as np
import pytest

from fledge.visualize.images import to_rgb


@pytest.mark.parametrize(("channels", "shown"), [(1, [0, 0, 0]), (2, [0, 0, 0]), (3, [0, 1, 2]), (7, [0, 1, 2])])
def test_what_a_picture_shows_of_many_channels(channels: int, shown: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    assert np.array_equal(to_rgb(image), image[..., shown])
