"""``fledge evaluate`` on one split and on several, with the gap between them."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fledge import api
from fledge.cli import app
from fledge.data.synthetic import write_dataset
from fledge.errors import UsageError
from fledge.evaluation.breakdown import breakdown
from fledge.evaluation.protocols import PROTOCOLS
from fledge.recipe import make_recipe

FIGURES = ("AP50", "AP75", "AP50:95")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("evaluate")
    write_dataset(root / "tiles", "train", 8, 64, 0)
    write_dataset(root / "whole", "train", 5, 64, 0)  # the same scenes, fewer
    write_dataset(root / "whole", "val", 4, 64, 0)
    settings = {
        "data": str(root / "tiles"),
        "eval_data": str(root / "whole"),
        "backbone": "resnet18_quarter",
        "neck_channels": 16,
        "head_convs": 1,
        "image_size": 64,
        "overlap": 0,
        "anchor_scale": 2.0,
        "epochs": 1,
        "workers": 0,
        "device": "cpu",
        "score_threshold": 0.01,
        "max_detections": 30,
    }
    return api.train(make_recipe(settings, "test"), root / "run")


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_one_split_is_a_flat_record(run: Path, tmp_path: Path) -> None:
    out = call(run, "--out", tmp_path / "one.json")
    record = json.loads((tmp_path / "one.json").read_text())
    assert {*FIGURES, "classes", "images", "protocol", "nms", "labels_sha256", "cost", "trust", "parts"} == set(record)
    assert record["images"] == 4  # of eval_data, not of the folder trained on
    assert "minus" not in out


def test_sizes_and_aspects_are_printed_and_kept(run: Path, tmp_path: Path) -> None:
    """Every object is in one part of each kind; the figures are those of the function."""
    out = call(run, "--split", "train", "--split", "val", "--protocol", "dior_r", "--out", tmp_path / "two.json")
    record = json.loads((tmp_path / "two.json").read_text())["splits"]["val"]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if "│" in line]
    shown = {row[0]: row[1:] for row in rows}  # the last split comes last
    parts = breakdown(api.evaluate(run, protocol="dior_r", device="cpu").case, PROTOCOLS["dior_r"], "aspect")
    for kind in ("size", "aspect"):
        total = sum(row["objects"] for row in record["classes"].values())
        assert sum(part["objects"] for part in record["parts"][kind].values()) == total > 0
        assert {f"{kind}: {name}" for name in record["parts"][kind]} <= set(shown)
    for name, part in parts.items():
        kept, means = record["parts"]["aspect"][name], {"AP50": part.mean(0.5), "AP75": part.mean(0.75)}
        assert kept == {"objects": part.objects.sum(), **{key: rounded(value) for key, value in means.items()}}
        assert shown[f"aspect: {name}"][0] == str(part.objects.sum())
        assert (shown[f"aspect: {name}"][1] == "–") == (kept["AP50"] is None)


def rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def test_two_splits_have_a_gap(run: Path, tmp_path: Path) -> None:
    out = call(run, "--split", "train", "--split", "val", "--out", tmp_path / "two.json")
    record = json.loads((tmp_path / "two.json").read_text())
    assert list(record["splits"]) == ["train", "val"]
    assert [record["splits"][s]["images"] for s in ("train", "val")] == [5, 4]
    (gap,) = record["gaps"]
    assert (gap["split"], gap["minus"]) == ("train", "val")
    for name in FIGURES:
        parts = [record["splits"][s][name] for s in ("train", "val")]
        expected = None if None in parts else parts[0] - parts[1]
        assert gap[name] == (expected if expected is None else pytest.approx(expected, abs=2e-6))
    assert "train minus val" in out
    counts = [{k: v["objects"] > 0 for k, v in record["splits"][s]["classes"].items()} for s in ("train", "val")]
    assert ("with objects in one of the two only" in out) == (counts[0] != counts[1])
    assert out.count("ms (network + decoding)") == 1


def test_the_single_records_are_those_of_single_evaluations(run: Path) -> None:
    alone = api.precision(run, split="train", device="cpu").summary()
    assert api.evaluate(run, split="train", device="cpu").metrics.summary() == alone


def test_a_limit_takes_images_spread_over_the_split(run: Path) -> None:
    assert api.precision(run, split="train", device="cpu", limit=2).images == 2
    assert api.precision(run, split="train", device="cpu", limit=9).images == 5


def test_the_rules_stand_beside_the_figures(run: Path, tmp_path: Path) -> None:
    out = " ".join(call(run, "--protocol", "dior_r", "--out", tmp_path / "r.json").split())
    record = json.loads((tmp_path / "r.json").read_text())
    assert (record["protocol"]["name"], record["protocol"]["thresholds"]) == ("dior_r", [0.5, 0.75])
    assert "AP50:95" not in record
    assert record["nms"] == {"score_threshold": 0.01, "iou": 0.1, "max_detections": 30}
    assert "AP50:95" not in out
    for words in (
        "protocol: dior_r (DIOR-R); AP: 11 points (VOC07); exact IoU of the smallest rotated rectangles, to be reached",
        "scores from 0.01, NMS at IoU 0.1, at most 30 a window",
        f"sha256 {record['labels_sha256'][:16]}",
    ):
        assert words in out


def test_the_labels_hash_tells_splits_apart_and_not_protocols(run: Path) -> None:
    first, again = (api.evaluate(run, protocol=name, device="cpu").about for name in ("box_area", "coco"))
    other = api.evaluate(run, split="train", device="cpu").about
    assert first["labels_sha256"] == again["labels_sha256"] != other["labels_sha256"]


def test_an_unknown_protocol_is_refused_with_the_known_ones(run: Path) -> None:
    with pytest.raises(UsageError, match="unknown protocol: voc08: one of dota, dota_task2"):
        call(run, "--protocol", "voc08")


def test_a_split_twice_is_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="--split val, val: name each once"):
        call(run, "--split", "val", "--split", "val")


def test_the_trust_line_knows_the_training_images(run: Path, tmp_path: Path) -> None:
    assert "none of 4 images is among the 8 trained on" in call(run)
    out = call(run, "--split", "train", "--out", tmp_path / "report")
    assert "5 of 5 images were trained on" in out
    record = json.loads((tmp_path / "report" / "results.json").read_text())
    assert {check["about"] for check in record["trust"]} == {"few objects", "selection", "training images"}
    assert (tmp_path / "report" / "report.html").is_file()


def test_a_submission_needs_no_labels(run: Path, tmp_path: Path) -> None:
    images = run.parent / "whole" / "val" / "images"
    with pytest.raises(UsageError, match="no submission for protocol box_area"):
        call(run, "--data", images, "--submit", tmp_path / "out.zip")
    with pytest.raises(UsageError, match="give a run folder and --data with the images"):
        call(run, "--submit", tmp_path / "out.zip", "--protocol", "dota")
    call(run, "--data", images, "--submit", tmp_path / "out.zip", "--protocol", "dota")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert len(archive.namelist()) == 15


def test_protocols_side_by_side(run: Path, tmp_path: Path) -> None:
    out = call(run, "--protocol", "hrsc_07,hrsc_12", "--out", tmp_path / "two.json")
    assert "protocol: hrsc_07" in out
    assert "protocol: hrsc_12" in out
    record = json.loads((tmp_path / "two.json").read_text())
    assert record["protocols"].keys() == {"hrsc_07", "hrsc_12"}
    assert record["AP50"] == record["protocols"]["hrsc_07"]["AP50"]
    assert record["cost"]["parameters"] > 0
