from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.geometry.oracle import slow_intersection

from benchmarks import geometry_drawings

ROOT = Path(__file__).parents[2]


def test_the_edges_of_the_drawing_add_up() -> None:
    """The numbers above its panels, against the clipper."""
    points = geometry_drawings._corners(geometry_drawings.A)
    shares = [geometry_drawings._clamped(points[k], points[(k + 1) % 4]) for k in range(4)]
    total = -sum(float(np.trapezoid(y, x)) for x, y in shares)
    frame = (0.0, 0.0, 2 * geometry_drawings.W, 2 * geometry_drawings.H, 0.0)
    assert total == pytest.approx(slow_intersection(geometry_drawings.A, frame))


@pytest.mark.parametrize("name", ["convention", "slab", "derivative", "fixed_point", "sweep"])
def test_the_drawings_are_there_and_can_be_made_again(name: str) -> None:
    drawn = geometry_drawings._svg(getattr(geometry_drawings, name)())
    assert drawn.startswith(b"<?xml")
    assert f"images/geometry/{name}.svg" in (ROOT / "docs" / "geometry.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "images" / "geometry" / f"{name}.svg").is_file()
