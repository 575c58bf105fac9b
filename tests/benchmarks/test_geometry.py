from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.geometry_errors import errors
from benchmarks.geometry_peers import Peer, by_grid_sample, fledge
from benchmarks.geometry_report import plot, speed_table

from fledge.geometry import deformable_sample

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.geometry", "--smoke", "--out", str(tmp_path / "results")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    assert "| NMS" in ended.stdout
    page = (tmp_path / "results" / "geometry_speed.md").read_text(encoding="utf-8")
    result = json.loads((tmp_path / "results" / "geometry_speed.json").read_text(encoding="utf-8"))
    assert all(row["work"] in page and row["median_ms"]["fledge"] > 0 for row in result["rows"])
    assert result["machine"]["processor"] in page
    assert (tmp_path / "images" / "geometry_speed.svg").stat().st_size > 1000


def test_errors_are_found() -> None:
    """An implementation that is off by 0.01 on every pair is wrong on every pair, and ours on none."""
    off = Peer("off", {"aligned": lambda a, b: lambda: fledge().makers["aligned"](a, b)() + 0.01})
    found = errors([fledge(), off], 20)
    assert len(found) == 11
    for each in found.values():
        assert each["fledge"]["largest"] < 1e-6
        assert each["fledge"]["wrong"] == 0
        assert each["off"]["wrong"] == 1


def test_the_peer_of_deformable_sampling_does_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 6), (2, 3))
    values = torch.randn(2, 30, 2, 3, generator=generator)
    locations = torch.rand(2, 5, 2, 2, 3, 2, generator=generator)
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator)
    expected = deformable_sample(values, locations, weights, shapes)
    torch.testing.assert_close(by_grid_sample(values, locations, weights, shapes), expected)


def test_tables_and_plots_of_a_result() -> None:
    row = {"work": "NMS", "median_ms": {"fledge": 2.0, "other 1.0": 100.0}, "kept": {"fledge": 7, "other 1.0": 8}}
    result = {"rows": [row], "errors": {}}
    assert "| NMS | 2, keeps 7 | 100 (50 ×), keeps 8 |" in speed_table(result)
    assert plot(result).startswith(b"<?xml")
