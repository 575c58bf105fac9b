"""Detections from files to figures, tables and a page; the command and the function."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.data.made import dota_folder, line, noise, rectangle
from typer.testing import CliRunner

from fledge import api
from fledge.cli import app
from fledge.errors import DataError, UsageError
from fledge.evaluation.protocols import PROTOCOLS
from fledge.evaluation.results.task_text import TASK_FILE
from fledge.reporting import FILES
from fledge.reporting.page import report_page
from fledge.reporting.tables import latex_row, markdown, result_record

PLACES = [(30.0, 20.0, 10.0), (80.0, 60.0, 70.0), (120.0, 30.0, -20.0)]


def text(name: str, quad: list[list[float]], score: float) -> str:
    return f"{name} {score} " + " ".join(f"{v:.3f}" for point in quad for v in point) + "\n"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four images with two ships and a plane each; the detections miss a plane and have one ship twice."""
    images, ships, planes = {}, "", ""
    for k in range(4):
        boxes = [rectangle(x, y, 24, 12, angle) for x, y, angle in PLACES]
        labels = line(boxes[0], "ship") + line(boxes[1], "ship") + line(boxes[2], "plane")
        images[f"i{k}"] = (noise(100, 150, seed=k), labels)
        ships += text(f"i{k}", boxes[0], 0.9) + text(f"i{k}", boxes[1], 0.8)
        planes += text(f"i{k}", boxes[2], 0.7) if k else ""
    ships += text("i0", rectangle(31, 20, 24, 12, 10), 0.6)
    dota_folder(tmp_path / "data", {"val": images})
    for name, content in (("ours", (ships, planes)), ("theirs", (ships, ""))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Task1_ship.txt").write_text(content[0])
        (tmp_path / name / "Task1_plane.txt").write_text(content[1])
    return tmp_path


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_figures_by_hand(data: Path) -> None:
    result = api.evaluate_files(data / "data", data / "ours", protocol="box_area")
    (metrics,) = result.metrics
    assert metrics.classes == ("plane", "ship")
    assert metrics.ap[:, 0].tolist() == [0.75, 1.0]
    assert result.about["detections"] == {"path": str(data / "ours"), "form": "DOTA Task 1 text", "count": 12}
    assert result.about["merge"] is None


def test_parts_by_size_and_aspect(data: Path) -> None:
    """All objects are 24 × 12: COCO's small, so that part has the figures of the whole and the others have none."""
    result = api.evaluate_files(data / "data", data / "ours", protocol="box_area")
    sizes, aspects = (result_record(result)["parts"][kind] for kind in ("size", "aspect"))
    assert {name: part["objects"] for name, part in sizes.items()} == {"small": 12, "medium": 0, "large": 0}
    assert sizes["small"]["AP50"] == result_record(result)["AP50"] == 0.875
    assert sizes["large"]["AP50"] is None
    assert sum(part["objects"] for part in aspects.values()) == 12
    assert "| size: small | 12 | 87.50 |" in markdown(result)
    assert "| size: large | 0 | – |" in markdown(result)
    assert "aspect: 2 to 4" in report_page(result, "fledge evaluate").html()
    printed = call("--detections", data / "ours", "--ground-truth", data / "data", "--protocol", "box_area,fair1m")
    rows = [[cell.strip() for cell in row.strip("│").split("│")] for row in printed.splitlines()]
    assert "by size and aspect ratio (box_area)" in printed
    assert ["size: small", "12", "87.50", "87.50", "87.50"] in rows
    assert ["size: large", "0", "–", "–", "–"] in rows


def test_the_command_says_how_the_figures_came_about(data: Path) -> None:
    out = call("--detections", data / "ours", "--ground-truth", data / "data", "--out", data / "one.json")
    for words in ("protocol: box_area", "12 in ours, DOTA Task 1 text", "sha256 ", "trust: 2 classes have fewer than"):
        assert words in out
    record = json.loads((data / "one.json").read_text())
    assert record["AP50"] == 0.875
    assert record["trust"][0]["state"] == "warning"
    assert len(record["labels_sha256"]) == 64


def test_two_protocols_side_by_side(data: Path) -> None:
    result = api.evaluate_files(data / "data", data / "ours", protocol=["hrsc_07", "hrsc_12"])
    table = markdown(result)
    assert table.startswith("| class | objects | AP50 hrsc_07 | AP50 hrsc_12 |")
    assert "| plane | 4 | 72.73 | 75.00 |" in table  # 8 of 11 recall points; 3 of 4 objects
    assert list(result_record(result)["protocols"]) == ["hrsc_07", "hrsc_12"]


def test_the_latex_row_is_escaped_and_explained(data: Path) -> None:
    (data / "ours").rename(data / "our_50%")
    row = latex_row(api.evaluate_files(data / "data", data / "our_50%", protocol="fair1m"))
    assert r"our\_50\% (AP50) & 72.73 & 100.00 & 86.36 \\" in row
    assert "% method & plane & ship & mean" in row
    assert all(text.startswith("%") for text in row.splitlines()[:-1])


def test_everything_is_written(data: Path) -> None:
    call("--detections", data / "ours", "--ground-truth", data / "data", "--out", data / "report",
         "--compare", data / "theirs", "--protocol", "dota")  # fmt: skip
    assert sorted(path.name for path in (data / "report").iterdir()) == sorted(FILES)
    record = json.loads((data / "report" / "results.json").read_text())
    assert record["comparison"]["difference"] == pytest.approx(record["AP50"] - 0.5, abs=1e-6)
    assert record["compared_with"]["count"] == 9
    with (data / "report" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["recall"] for r in rows if (r["class"], r["threshold"]) == ("plane", "0.5")] == ["0.25", "0.5", "0.75"]
    html = (data / "report" / "report.html").read_text()
    for words in ("What each error costs", "duplicate", "The images with the most errors", "i0", "paired bootstrap"):
        assert words in html


def test_a_browser_opens_the_page_cleanly(data: Path, open_page: Callable[..., Any]) -> None:
    result = api.evaluate_files(data / "data", data / "ours", protocol="dota")
    facts = open_page(report_page(result, "fledge evaluate").write(data / "page.html"))
    assert (facts.console, facts.requests, facts.broken, facts.overflow) == ([], [], [], [])
    assert facts.images == 2  # labels and detections of the one image with errors
    assert facts.enlarged


def test_patches_are_merged_when_the_labels_are_of_whole_images(data: Path) -> None:
    """Each image as two patches of 100 px; what lies in both is found twice."""
    folder = data / "patches"
    folder.mkdir()
    for path in (data / "ours").iterdir():
        assert TASK_FILE.fullmatch(path.name)
        lines = ""
        for row in path.read_text().splitlines():
            name, score, *numbers = row.split()
            points = np.array(numbers, dtype=float).reshape(4, 2)
            for x in (0, 50):
                if points[:, 0].min() >= x and points[:, 0].max() <= x + 100:
                    lines += text(f"{name}__1.0__{x}___0", (points - [x, 0]).tolist(), float(score))
        (folder / path.name).write_text(lines)
    result = api.evaluate_files(data / "data", folder, protocol="box_area")
    assert result.metrics[0].ap[:, 0].tolist() == [0.75, 1.0]
    assert result.about["merge"]["patches"] == 8
    assert result.about["merge"]["after"] == 11  # the double one of i0 is gone as well
    assert "merged from 8 patches: scores from 0.05" in call("--detections", folder, "--ground-truth", data / "data")
    with pytest.raises(UsageError, match="leave out --merge none"):
        call("--detections", folder, "--ground-truth", data / "data", "--merge", "none")
    with pytest.raises(UsageError, match="not SCORE,IOU,IOU"):
        call("--detections", folder, "--ground-truth", data / "data", "--merge", "0.1,x")
    assert "scores from 0.85" in call(
        "--detections", folder, "--ground-truth", data / "data", "--merge", "0.85,0.3,0.3"
    )
    with pytest.raises(DataError, match="protocol ohd compares patches"):
        api.evaluate_files(data / "data", folder, protocol="ohd")


def test_horizontal_boxes_at_an_oriented_protocol_are_noted(data: Path) -> None:
    (data / "flat").mkdir()
    (data / "flat" / "Task2_ship.txt").write_text("i0 0.5 10 10 40 30\n")
    assert "horizontal boxes; this protocol compares oriented ones" in call(
        "--detections", data / "flat", "--ground-truth", data / "data", "--protocol", "dota"
    )
    result = api.evaluate_files(data / "data", data / "flat", protocol="dota_task2")
    assert not result.about["notes"]


def test_images_that_cannot_be_read_are_no_end(data: Path) -> None:
    result = api.evaluate_files(data / "data", data / "ours", protocol="dota")
    (data / "data" / "val" / "images" / "i0.png").write_bytes(b"")
    assert "the image cannot be read" in report_page(result, "").html()


def test_no_detections_at_all(data: Path) -> None:
    for path in (data / "ours").iterdir():
        path.write_text("")
    for name in PROTOCOLS:
        result = api.evaluate_files(data / "data", data / "ours", protocol=name)
        assert result.metrics[0].mean(0.5) == 0
    assert "Evaluation of ours" in report_page(result, "").html()


def test_faults(data: Path) -> None:
    with pytest.raises(UsageError, match="what to evaluate"):
        call("--detections", data / "ours")
    with pytest.raises(UsageError, match="--data goes with a run"):
        call("--detections", data / "ours", "--data", data / "data")
    with pytest.raises(UsageError, match="--compare goes with --detections"):
        call("run", "--compare", data / "ours")
    with pytest.raises(UsageError, match="unknown protocol"):
        api.evaluate_files(data / "data", data / "ours", protocol="doto")
    with pytest.raises(DataError, match=r"no such folder: .*nowhere"):
        api.evaluate_files(data / "data", data / "ours", trained_on=data / "nowhere")
