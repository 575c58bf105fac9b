"""The functions behind the commands, end to end on a handful of rendered tiles."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fledge
from fledge import api
from fledge.build import build_detector
from fledge.data.raster import read_image
from fledge.data.synthetic import write_dataset
from fledge.engine.checkpoint import load_checkpoint
from fledge.engine.metric_log import read_metrics
from fledge.errors import DataError, FledgeError, UsageError
from fledge.recipe import Recipe, load_recipe, make_recipe

TINY: dict[str, Any] = {
    "backbone": "resnet18_quarter", "neck_channels": 16, "head_convs": 1, "anchor_scale": 2.0, "image_size": 64,
    "overlap": 16, "batch_size": 2, "epochs": 2, "workers": 0, "warmup_steps": 2, "schedule": "cosine",
    "optimizer": "adamw", "lr": 0.001, "photometric": 0.5, "right_angles": True, "device": "cpu", "seed": 3,
    "score_threshold": 0.005, "max_detections": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_dataset(root, "train", 8, 80, 0)
    write_dataset(root, "val", 4, 80, 0)
    return root


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.train(recipe(data), tmp_path_factory.mktemp("runs") / "teacher")


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Any:
    """What was printed to the console, without its line breaks."""
    return lambda: " ".join(capsys.readouterr().err.split())


def recipe(data: Path, **settings: Any) -> Recipe:
    return make_recipe({**TINY, "data": str(data), **settings}, "test")


def kd(data: Path, teacher: Path, **settings: Any) -> Recipe:
    return recipe(data, method="kd_rnet", teacher=str(teacher), **settings)


def weights(run: Path) -> dict[str, torch.Tensor]:
    (*_, newest) = sorted(run.glob("checkpoints/step-*"))
    _, groups = load_checkpoint(newest)
    return {f"{g}/{k}": v for g, tensors in groups.items() for k, v in tensors.items()}


def assert_same(a: Path, b: Path) -> None:
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    assert [k for k in one if not torch.equal(one[k], other[k])] == []


def one_error(kind: type[FledgeError], match: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(kind, match=match) as caught:
        api.train(*args, **kwargs)
    assert "\n" not in str(caught.value)


def test_a_run_folder(run: Path, data: Path) -> None:
    assert {p.name for p in run.iterdir()} == {"recipe.toml", "metrics.csv", "tensorboard", "checkpoints"}
    assert load_recipe(run / "recipe.toml") == recipe(data)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-00000004", "step-00000008"]
    names = {name for _, name, _ in read_metrics(run / "metrics.csv")}
    assert names == {"cls", "box", "loss", "lr"}
    assert all(math.isfinite(v) for _, _, v in read_metrics(run / "metrics.csv"))


def test_evaluate(run: Path) -> None:
    result = api.evaluate(run, device="cpu")
    assert result.metrics.images == len(result.detections) == len(result.dataset) == 4
    assert [d.frame.image_id for d in result.detections] == list(result.dataset.ids)
    counted = result.dataset.labels[~result.dataset.difficult & ~result.dataset.ignore]
    assert result.metrics.objects.tolist() == np.bincount(counted, minlength=len(result.metrics.classes)).tolist()
    assert result.cost.size == (64, 64)
    assert result.cost.parameters == sum(
        p.numel() for p in build_detector(load_recipe(run / "recipe.toml"), result.metrics.classes).parameters()
    )
    other = api.evaluate(run, split="train", protocol="hrsc_07", device="cpu")
    assert (other.metrics.images, other.metrics.protocol.name) == (8, "hrsc_07")


def test_detect_files_arrays_and_checkpoints_agree(run: Path, data: Path) -> None:
    path = sorted((data / "val" / "images").iterdir())[0]
    first, second = api.detect(run, [path, read_image(path)], 0.0, "cpu")
    checkpoint = sorted((run / "checkpoints").iterdir())[-1]
    third = fledge.load(checkpoint, "cpu").detect(path, 0.0)
    assert len(first) > 0
    for other in (second, third):
        assert torch.equal(first.boxes, other.boxes)
        assert torch.equal(first.scores, other.scores)
    assert first.frame.size == (80, 80)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(run: Path, data: Path, tmp_path: Path) -> None:
    assert_same(api.train(recipe(data), tmp_path / "again"), run)
    other = weights(api.train(recipe(data, seed=4, epochs=1), tmp_path / "other"))
    assert any(not torch.equal(v, other[k]) for k, v in weights(run).items() if k in other)


@pytest.mark.slow
def test_workers_do_not_change_a_bit(run: Path, data: Path, tmp_path: Path) -> None:
    assert_same(api.train(recipe(data, workers=2), tmp_path / "two"), run)


def test_a_run_that_lost_its_last_checkpoint_goes_on_to_the_same_bits(run: Path, tmp_path: Path, data: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "checkpoints" / "step-00000008")
    before = (copy / "metrics.csv").read_bytes()
    assert_same(api.train(recipe(data), copy), run)
    assert (copy / "metrics.csv").read_bytes() == before


def test_a_finished_run_is_left_alone(run: Path, data: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    assert api.train(recipe(data), run) == run
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before


def test_distil(run: Path, data: Path, tmp_path: Path) -> None:
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    student = api.distill(recipe(data, method="kd_rnet"), tmp_path / "student", teacher=run)
    names = {name for _, name, _ in read_metrics(student / "metrics.csv")}
    extra = {f"{kind}/{term}" for kind in ("raw", "ratio") for term in ("kd_cls", "kd_box")}
    assert names == {"cls", "box", "kd_cls", "kd_box", "loss", "lr"} | extra
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert load_recipe(student / "recipe.toml") == kd(data, run)
    assert not [k for k in weights(student) if "teacher" in k]
    lost = shutil.copytree(student, tmp_path / "lost")
    shutil.rmtree(lost / "checkpoints" / "step-00000008")
    assert_same(api.distill(kd(data, run), lost), student)


def test_without_weight_a_distillation_is_training_alone(run: Path, data: Path, tmp_path: Path) -> None:
    control = api.distill(kd(data, run, kd_cls_weight=0, kd_box_weight=0), tmp_path / "control")
    one, other = weights(control), weights(run)
    assert [k for k in other if k.startswith("model/") and not torch.equal(one[k], other[k])] == []


def test_another_recipe_in_the_same_folder_is_refused(run: Path, data: Path) -> None:
    one_error(UsageError, r"lr 0\.001 -> 0\.002", recipe(data, lr=0.002), run)
    one_error(UsageError, "kd_temperature None -> 8.0.*method 'none' -> 'kd_rnet'", kd(data, run), run)
    assert load_recipe(run / "recipe.toml") == recipe(data)


def test_folders_that_are_no_runs_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_text("")
    one_error(UsageError, "not a run folder", recipe(data), tmp_path / "mine")
    (tmp_path / "file").write_text("")
    one_error(UsageError, "not a run folder", recipe(data), tmp_path / "file")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["photo.png"]


def test_bad_data(data: Path, tmp_path: Path) -> None:
    one_error(UsageError, "no data", recipe(Path()).model_copy(update={"data": ""}), tmp_path / "a")
    one_error(DataError, "no such folder", recipe(tmp_path / "absent"), tmp_path / "a")
    one_error(DataError, "no split 'training'", recipe(data, train_split="training"), tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_bad_label_is_named_with_its_line(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", "train", 2, 64, 0)
    label = tmp_path / "data" / "train" / "labelTxt" / "train_00001.txt"
    label.write_text(label.read_text() + "1 2 3 4 5 6 7 ship 0\n")
    line = len(label.read_text().splitlines())
    with pytest.raises(DataError, match=rf"train_00001\.txt:{line}: "):
        api.train(recipe(tmp_path / "data"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_teachers_that_are_none(run: Path, data: Path, tmp_path: Path) -> None:
    one_error(UsageError, "no teacher", recipe(data, method="kd_rnet"), tmp_path / "a")
    one_error(DataError, "no checkpoint", kd(data, tmp_path / "absent"), tmp_path / "b")
    with pytest.raises(UsageError, match="nothing to distil"):
        api.distill(recipe(data), tmp_path / "c")
    one_error(UsageError, "teacher", recipe(data), tmp_path / "d", teacher=run)


def test_a_teacher_of_other_classes_is_refused(run: Path, tmp_path: Path) -> None:
    one_class(tmp_path / "data")
    one_error(DataError, "classes differ.*ship", kd(tmp_path / "data", run), tmp_path / "a")


def one_class(root: Path) -> Path:
    write_dataset(root, "train", 4, 64, 0)
    for label in root.glob("train/labelTxt/*.txt"):
        label.write_text("10 10 30 10 30 20 10 20 ship 0\n")
    return root


def test_one_class_takes_the_sigmoid_form_and_says_so(tmp_path: Path, said: Any) -> None:
    data = one_class(tmp_path / "data")
    teacher = api.train(recipe(data, epochs=1), tmp_path / "teacher")
    student = api.distill(kd(data, teacher, epochs=1), tmp_path / "student")
    assert "kd_probability is now sigmoid" in said()
    assert load_recipe(student / "recipe.toml").model_dump()["kd_probability"] == "sigmoid"
    again = api.distill(kd(data, teacher, epochs=1), tmp_path / "student")  # the same command goes on
    assert again == student
    assert any(v > 0 for _, n, v in read_metrics(student / "metrics.csv") if n == "kd_cls")


def test_fewer_images_than_a_batch_train(tmp_path: Path) -> None:
    data = one_class(tmp_path / "data")
    run = api.train(recipe(data, batch_size=16, epochs=1), tmp_path / "run")
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000001"]


def test_images_without_objects_train(tmp_path: Path) -> None:
    data = one_class(tmp_path / "data")
    for label in sorted(data.glob("train/labelTxt/*.txt"))[1:]:
        label.write_text("")
    run = api.train(recipe(data, epochs=1), tmp_path / "run")
    assert all(torch.isfinite(v).all() for v in weights(run).values() if v.is_floating_point())


def test_unknown_devices_and_backbones(data: Path, tmp_path: Path) -> None:
    one_error(UsageError, "unknown device 'tpu9'", recipe(data, device="tpu9"), tmp_path / "a")
    one_error(UsageError, "unknown backbone.*resnet18_quarter", recipe(data, backbone="resnet9"), tmp_path / "b")
    if not torch.cuda.is_available():
        one_error(UsageError, "no CUDA device", recipe(data, device="cuda"), tmp_path / "c")


@pytest.mark.parametrize(
    "wrong", [{"device": "tpu9"}, {"backbone": "resnet9"}, {"weights": "absent"}, {"method": "kd_rnet"}]
)
def test_a_mistake_does_not_claim_the_folder(data: Path, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(FledgeError):
        api.train(recipe(data, **wrong), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_backbone_weights(data: Path, tmp_path: Path, said: Any) -> None:
    body: Any = build_detector(recipe(data, seed=9), ["a"]).backbone.body
    given = {
        k: v.contiguous() + 0.125
        for k, v in body.state_dict().items()
        if k.startswith("layer1") and v.is_floating_point()
    }
    save_file({**given, "fc.weight": torch.zeros(3, 3)}, tmp_path / "w.safetensors")
    settings = recipe(data, weights=str(tmp_path / "w.safetensors"), epochs=1, frozen_stages=2)
    run = api.train(settings, tmp_path / "run")
    text = said()
    assert f"loaded {len(given)} tensors" in text
    assert "not used 1 (fc)" in text
    assert "left at random" in text
    assert "layer4" in text
    (newest,) = run.glob("checkpoints/*/model.safetensors")
    saved = load_file(newest)
    assert all(torch.equal(saved[f"backbone.body.{k}"], v) for k, v in given.items())


def test_weights_that_cannot_be(data: Path, tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    one_error(DataError, "no weights fit", recipe(data, weights=str(tmp_path / "other.safetensors")), tmp_path / "a")
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04K\x01.")
    one_error(
        DataError, "cannot read weights", recipe(data, weights=str(tmp_path / "pickle.safetensors")), tmp_path / "b"
    )


def test_loading_what_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match="no checkpoint"):
            fledge.load(path)


def test_a_damaged_run_is_refused(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    path = copy / "checkpoints" / "step-00000008" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="hash differs"):
        fledge.load(copy, "cpu")


def test_fitted_runs_remember_their_scale(data: Path, tmp_path: Path) -> None:
    run = api.train(recipe(data, view="fit", epochs=1), tmp_path / "run")
    predictor = fledge.load(run, "cpu")
    assert predictor.model.pixel_scale == 64 / 80
    assert api.evaluate(run, device="cpu").cost.size == (64, 64)
