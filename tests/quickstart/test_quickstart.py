"""The main job at its smallest size, and its report as a browser sees it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from fledge.data.raster import read_image
from fledge.data.synthetic import render_scene, write_dataset
from fledge.errors import DataError, UsageError
from fledge.files import write_bytes
from fledge.quickstart import Result, quickstart
from fledge.quickstart.job import differences
from fledge.quickstart.plan import plan_own, plan_synthetic
from fledge.recipe import load_recipe
from fledge.visualize.images import encode

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return quickstart(tmp_path_factory.mktemp("quickstart") / "out", size="smallest", device="cpu")


def weights(run: Path) -> dict[str, Any]:
    (checkpoint,) = run.glob("checkpoints/step-*/model.safetensors")
    return load_file(checkpoint)


def test_everything_promised_is_there(result: Result) -> None:
    made = {str(p.relative_to(result.out)) for p in result.out.rglob("*")}
    names = ("scene.png", "scene.gpkg", "detections.csv", "detections.json", "scene.detections.jpg")
    scene = {f"scene/{name}" for name in names}
    assert scene | {"report.html", "results.json"} <= made
    for role in ("teacher", "student", "distilled"):
        assert {f"{role}/recipe.toml", f"{role}/metrics.csv", f"{role}/tensorboard"} <= made


def test_the_record_is_what_was_evaluated(result: Result) -> None:
    record = json.loads((result.out / "results.json").read_text())
    assert record == json.loads(json.dumps(result.record))
    for role, runs in result.evaluations.items():
        assert math.isclose(record["evaluations"][role][0]["AP50"], runs[0].metrics.mean(0.5), abs_tol=1e-6)
    cost = {role: record["evaluations"][role][0]["cost"] for role in record["evaluations"]}
    assert cost["teacher"]["parameters"] > 3 * cost["student"]["parameters"]
    assert cost["student"]["flops"] == cost["distilled"]["flops"]


def test_training_and_held_out_images_are_compared(result: Result) -> None:
    seen = result.record["on_training_images"]
    assert list(seen) == ["teacher", "student", "distilled"]
    for role, (figures,) in seen.items():
        assert figures["images"] == 16  # all there are: the limit is 100
        held_out = result.record["evaluations"][role][0]
        for name in ("AP50", "AP75", "AP50:95"):
            assert math.isclose(figures["gap"][name], figures[name] - held_out[name], abs_tol=2e-6)
    page = (result.out / "report.html").read_text()
    assert "Training and held-out images" in page
    assert "on all 16 training images" in page


def test_the_scene_is_larger_than_the_input_and_is_covered(result: Result) -> None:
    image = read_image(result.out / "scene" / "scene.png")
    assert image.shape == (384, 512, 3)
    assert result.record["scene"]["windows"] == 7 * 10  # 96 px windows, 48 px apart


def test_both_students_have_the_same_shape_and_differ(result: Result) -> None:
    alone, distilled = weights(result.out / "student"), weights(result.out / "distilled")
    assert {k: v.shape for k, v in alone.items()} == {k: v.shape for k, v in distilled.items()}
    assert any(not np.array_equal(alone[k], distilled[k]) for k in alone)


def test_running_it_again_changes_nothing(result: Result) -> None:
    before = {p: p.read_bytes() for p in result.out.glob("*/checkpoints/*/*")}
    again = quickstart(result.out, size="smallest", device="cpu")
    assert {p: p.read_bytes() for p in result.out.glob("*/checkpoints/*/*")} == before
    assert again.record["evaluations"]["student"][0]["AP50"] == result.record["evaluations"]["student"][0]["AP50"]


def test_the_same_seed_gives_the_same_bits(result: Result, tmp_path: Path) -> None:
    shutil.copytree(result.out / "data", tmp_path / "out" / "data")
    quickstart(tmp_path / "out", size="smallest", device="cpu")
    for role in ("teacher", "student", "distilled"):
        first, second = weights(result.out / role), weights(tmp_path / "out" / role)
        assert all(np.array_equal(first[k], second[k]) for k in first)


def test_students_share_everything_but_the_method() -> None:
    plan = plan_synthetic(Path("out"), "standard", 3, None, "cpu")
    alone, distilled = plan.student_recipe(3).model_dump(), plan.distilled_recipe(3).model_dump()
    assert {k for k in alone if alone[k] != distilled[k]} == {"method"}
    assert {k for k in distilled if k not in alone} == {k for k in distilled if k.startswith("kd_")} | {"teacher"}


def test_teacher_differs_in_size_and_epochs_only() -> None:
    plan = plan_synthetic(Path("out"), "full", 0, None, "cpu")
    different = {k for k, v in plan.teacher.model_dump().items() if v != plan.student.model_dump()[k]}
    assert different == {"backbone", "neck_channels", "epochs"}
    assert plan.seeds == (0, 1, 2, 3, 4)


def test_paired_differences_by_hand() -> None:
    paired = differences([0.5, 0.6, 0.4], [0.6, 0.5, 0.7])
    assert np.allclose(paired["each"], [0.1, -0.1, 0.3])
    assert math.isclose(paired["mean"], 0.1)
    assert math.isclose(paired["sd"], 0.2)
    assert paired["wins"] == 2
    assert differences([0.5], [0.4])["sd"] is None


def test_own_data_without_a_held_out_split_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, "train", 2, 64, 0)
    with pytest.raises(DataError, match="no held-out split"):
        quickstart(tmp_path / "out", data=tmp_path, device="cpu")


def test_own_data_with_one_class_and_big_images(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("valid", 2)):
        for layout in ("apron", "tank-farm"):
            folder = tmp_path / "data" / split
            scene = render_scene(seed, 200, 260, layout)
            write_bytes(folder / "images" / f"{layout}.png", encode(scene.image, "png"))
            lines = [" ".join(f"{v:.1f}" for v in quad.ravel()) + " thing 0" for quad in scene.quads]
            write_bytes(folder / "labelTxt" / f"{layout}.txt", "\n".join(lines).encode())
    result = quickstart(tmp_path / "out", data=tmp_path / "data", image_size=96, epochs=1, device="cpu")
    recipe = load_recipe(result.out / "distilled" / "recipe.toml").model_dump()
    assert recipe["kd_probability"] == "sigmoid"
    assert recipe["view"] == "crop"  # 96 px are less than 0.4 of 260
    assert result.record["scene"]["windows"] > 1
    assert "One seed is no evidence" in (result.out / "report.html").read_text()


def test_arguments_that_do_not_go_together() -> None:
    with pytest.raises(UsageError, match="--data"):
        quickstart("out", image_size=320)
    with pytest.raises(UsageError, match="--smallest"):
        quickstart("out", data="somewhere", size="smallest")


@pytest.mark.skipif(not (SHARED / "hit_uav").is_dir(), reason="no HIT-UAV here")
def test_hit_uav_is_cut_into_windows() -> None:
    weights = SHARED / "weights" / "resnet18_in1k_c2_c4.safetensors"
    plan = plan_own(Path("out"), SHARED / "hit_uav", [0], 320, None, weights, "cpu")
    assert (plan.student.view, plan.student.anchor_scale, plan.student.eval_split) == ("crop", 1.0, "val")
    assert (plan.teacher.backbone, plan.teacher.frozen_stages) == ("resnet18", 4)
    assert plan.student.weights == ""


@pytest.mark.slow
def test_the_report_in_a_browser(result: Result, open_page: Callable[..., Any]) -> None:
    facts = open_page(result.out / "report.html")
    assert facts.console == []
    assert facts.requests == []
    assert facts.broken == []
    assert facts.images >= 5 * 4 + 1
    assert facts.overflow == []
