from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fledge.types import Detections, Frame
from fledge.visualize.benchmark_page import benchmark_page
from fledge.visualize.map_page import map_page
from fledge.visualize.page import Page


@pytest.mark.slow
def test_a_browser_opens_the_page_cleanly(sample_page: Page, open_page: Callable[..., Any], tmp_path: Path) -> None:
    path = sample_page.write(tmp_path / "sample.html")
    shots = os.environ.get("FLEDGE_SHOTS")
    facts = open_page(path, Path(shots) if shots else None)
    assert facts.console == []
    assert facts.requests == []
    assert facts.images == 13
    assert facts.broken == []
    assert facts.overflow == []
    assert facts.enlarged is True


def benchmark_rows() -> list[dict[str, Any]]:
    """What ``fledge benchmark`` has of a run and files of it, at two sizes; one without average precision."""
    kinds = [
        ("runs/2026-11-24/dota-v1.0/student_resnet18_half_seed_0", "torch", "fp32", 410.0, 0.703),
        ("exports/student_resnet18_half_seed_0-dynamic.onnx", "onnx", "fp32", 260.4, 0.703),
        ("exports/student_resnet18_half_seed_0-int8.onnx", "onnx", "int8", 188.0, 0.6912),
        ("exports/student_resnet18_half_seed_0-fp16.xml", "openvino", "fp16", 236.2, 0.7029),
        ("exports/other.xml", "openvino", "int8", 121.0, None),
    ]
    return [
        {
            "model": model, "runtime": runtime, "precision": precision, "size": size, "threads": 1,
            "median_ms": ms * size / 1024, "p95_ms": 1.2 * ms, "cpu_ms": 0.98 * ms, "peak_bytes": 4.1e8,
            "file_bytes": 1.34e7, "parameters": 3_353_000, "flops": 3.1e10, "ap50": ap,
            "ap50_95": ap if ap is None else ap / 2,
        }
        for model, runtime, precision, ms, ap in kinds
        for size in (512, 1024)
    ]  # fmt: skip


@pytest.mark.slow
def test_a_benchmark_is_a_clean_page(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = benchmark_page(benchmark_rows(), {"fledge": "0.1.0", "command": "fledge benchmark runs/a b.onnx --data d"})
    shots = os.environ.get("FLEDGE_SHOTS")
    facts = open_page(page.write(tmp_path / "benchmark.html"), Path(shots) if shots else None)
    assert (facts.console, facts.requests, facts.overflow, facts.broken) == ([], [], [], [])


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_a_map_of_thousands_of_boxes(chromium: Any, open_page: Callable[..., Any], tmp_path: Path, width: int) -> None:
    rng = np.random.default_rng(0)
    columns = [rng.uniform(0, 4000, (2, 5000)), np.full((1, 5000), 24), np.full((1, 5000), 12), np.zeros((1, 5000))]
    frame = Frame("scene", (4000, 4000), (0.5, 0, 450_000, 0, -0.5, 36_000), "EPSG:32636")
    boxes = torch.tensor(np.concatenate(columns).T, dtype=torch.float32)
    boxes[0] = torch.tensor([2000, 2000, 900, 600, 0.0])
    labels = torch.arange(5000) % 3
    found = Detections(boxes, torch.linspace(0.9, 0.1, 5000), labels, ("ship", "car", "tank"), frame)
    path = tmp_path / "map.html"
    path.write_text(map_page(found, np.full((500, 500, 3), 80, np.uint8), "Harbour"), encoding="utf-8")
    facts = open_page(path)
    assert (facts.console, facts.requests, facts.overflow) == ([], [], [])

    page = chromium.new_context(viewport={"width": width, "height": 800}, has_touch=width == 390).new_page()
    page.goto(path.as_uri(), wait_until="load")
    page.wait_for_function("document.querySelector('.count').textContent === '5000 objects'")
    assert page.inner_text(".class-list label:nth-of-type(1)").split() == ["ship", "1667"]
    page.uncheck(".class-list label:nth-of-type(1) input")
    assert page.inner_text(".count") == "3333 objects of 5000"
    page.fill(".score input", "0.5")
    assert page.inner_text(".score output") == "0.50"
    expected = int(((found.scores >= 0.4995) & (labels > 0)).sum())
    assert page.inner_text(".count") == f"{expected} objects of 5000"
    page.check(".class-list label:nth-of-type(1) input")

    box = page.locator("canvas").bounding_box()
    assert box["width"] > 300
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_selector(".tip:visible")
    for _ in range(6):  # until nothing but the large one lies below the pointer
        page.mouse.wheel(0, -400)
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2 + 3)
    told = page.inner_text(".tip").split("\n")
    assert told[0] in ("ship", "car", "tank")
    assert told[1].startswith("score 0.")
    assert " m" in told[2]
    assert told[3].startswith("bearing ")
    assert "EPSG:32636" in page.inner_text(".where")
    assert page.inner_text(".bar").endswith(" m")
    assert page.is_visible(".north")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 80, box["y"] + box["height"] / 2 + 40)
    page.mouse.up()
    page.focus("canvas")
    page.keyboard.press("n")
    assert page.inner_text(".said").startswith("ship, score 0.90, 450.")
    assert "× 300." in page.inner_text(".said")
