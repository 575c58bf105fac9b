"""IFKD's teachers and students alone: every row of Tables 1 and 2 builds and takes a step, on the data's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from fledge import api
from fledge.build import build_detector, build_train_step
from fledge.data.catalogue.sar_aircraft import SAR_AIRCRAFT_CLASSES
from fledge.data.catalogue.shiprsimagenet import LEVELS
from fledge.data.synthetic import render_scene
from fledge.engine.optim import make_optimizer
from fledge.files import write_bytes
from fledge.recipe import load_recipe, shipped_recipes
from fledge.runs import open_split

SETS = {"sar": "SAR-AIRcraft-1.0", "ship": "ShipRSImageNet"}
DETECTORS = {"faster": "faster_rcnn", "retina": "retinanet"}
NETS = {"teacher_r50": "resnet50", "alone_r18": "resnet18", "alone_mbv2": "mobilenetv2_1280"}
NAMES = [f"ifkd_{d}_{k}_{n}" for d in SETS for k in DETECTORS for n in NETS]
SMALL: dict[str, Any] = {
    "image_size": 64, "overlap": 32, "weights": "", "workers": 0, "device": "cpu", "batch_size": 1, "proposals": 40,
    "region_samples": 16,
}  # fmt: skip


def write_xml(root: Path, name: str, folders: tuple[str, str], body: list[str]) -> None:
    scene = render_scene(len(name), 96, 96, "harbour")
    pixels = cv2.imencode(Path(name).suffix, scene.image[..., ::-1])[1]
    write_bytes(root / folders[0] / name, pixels.tobytes())
    text = f"<annotation>\n<filename>{name}</filename>\n{''.join(body)}</annotation>\n"
    write_bytes(root / folders[1] / f"{Path(name).stem}.xml", text.encode())


@pytest.fixture(scope="module")
def sar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pascal VOC's tree and boxes, all seven classes, one grey square image a list."""
    root = tmp_path_factory.mktemp("SAR-AIRcraft-1.0")
    for k, split in enumerate(("train", "test")):
        things = [
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{5 + 12 * i}</xmin>"
            f"<ymin>{9 + 7 * i}</ymin><xmax>{23 + 12 * i}</xmax><ymax>{38 + 7 * i}</ymax></bndbox></object>\n"
            for i, name in enumerate(SAR_AIRCRAFT_CLASSES)
        ]
        write_xml(root, f"000000{k}.jpg", ("JPEGImages", "Annotations"), things)
        write_bytes(root / "ImageSets" / "Main" / f"{split}.txt", f"000000{k}\n".encode())
    return root


@pytest.fixture(scope="module")
def ship(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists with suffixes, quadrilaterals, numbers of four levels; trainval made as the recipes' headers say."""
    root = tmp_path_factory.mktemp("ShipRSImageNet") / "data"
    base = root / "VOC_Format"
    for k, split in enumerate(("train", "val", "test")):
        things = []
        for i in range(6):
            x, y = 10 + 13 * i, 12 + 9 * i
            corners = [(x, y), (x + 26, y + 10), (x + 20, y + 24), (x - 6, y + 14)]
            tags = "".join(f"<x{j}>{a}</x{j}><y{j}>{b}</y{j}>" for j, (a, b) in enumerate(corners, start=1))
            levels = "<level_0>1</level_0><level_1>3</level_1><level_2>15</level_2><level_3>40</level_3>"
            thing = f"<object><name>{LEVELS[3][39 + i % 2]}</name><difficult>0</difficult>{levels}"
            things.append(f"{thing}\n<polygon>{tags}</polygon></object>\n")
        write_xml(base, f"00000{k}.bmp", ("JPEGImages", "annotations"), things)
        write_bytes(base / "ImageSets" / f"{split}.txt", f"00000{k}.bmp\n".encode())
    lists = [(base / "ImageSets" / f"{split}.txt").read_bytes() for split in ("train", "val")]
    write_bytes(base / "ImageSets" / "trainval.txt", b"".join(lists))
    return root


def test_every_row_has_a_recipe() -> None:
    alone = {n for n in shipped_recipes() if n.startswith("ifkd_") and load_recipe(n).method == "none"}
    assert alone == set(NAMES)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if "teacher" in n else ()) for n in NAMES])
def test_it_takes_a_step(name: str, sar: Path, ship: Path) -> None:
    recipe = load_recipe(name, data=str(sar if "_sar_" in name else ship), **SMALL)
    dataset = open_split(recipe, recipe.data, recipe.train_split)
    assert len(dataset) == (1 if "_sar_" in name else 2)
    assert set(dataset.classes) <= set(SAR_AIRCRAFT_CLASSES if "_sar_" in name else LEVELS[3])
    assert len(open_split(recipe, recipe.data, recipe.eval_split, dataset.classes)) == 1
    step = build_train_step(recipe, build_detector(recipe, dataset.classes), None).train()
    optimizer = make_optimizer(step, recipe.optimizer, recipe.lr, recipe.weight_decay, recipe.momentum)
    before = {k: p.detach().clone() for k, p in step.student.named_parameters()}
    terms = step(next(iter(api.training_batches(recipe, dataset, 0, 1))))
    assert all(bool(value.isfinite()) and float(value.detach()) > 0 for value in terms.values())
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    moved = {k for k, p in step.student.named_parameters() if not torch.equal(p.detach(), before[k])}
    learning = {k for k, p in step.student.named_parameters() if p.requires_grad}
    assert moved <= learning
    assert len(moved) > 0.6 * len(learning)


@pytest.mark.parametrize("name", NAMES)
def test_the_protocol_is_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    _, data, kind, net = name.split("_", 3)
    assert (Path(recipe.data).name, recipe.detector, recipe.backbone) == (SETS[data], DETECTORS[kind], NETS[net])
    assert (recipe.epochs, recipe.milestones, recipe.warmup_steps, recipe.weight_decay) == (100, (80, 90), 500, 1e-4)
    assert (recipe.lr, recipe.batch_size) == ({"faster": 0.02, "retina": 0.005}[kind], 8)
    assert (recipe.view, recipe.image_size, recipe.hflip, recipe.vflip) == ("fit", 800, True, False)
    assert recipe.horizontal


def test_rows_of_a_table_differ_in_what_they_compare() -> None:
    for kind in DETECTORS:
        teacher, r18, mbv2 = (load_recipe(f"ifkd_sar_{kind}_{net}").model_dump() for net in NETS)
        assert {k for k in teacher if teacher[k] != r18[k]} == {"backbone", "weights"}
        assert {k for k in teacher if teacher[k] != mbv2[k]} == {"backbone", "weights", "frozen_stages", "freeze_norm"}
        other = load_recipe(f"ifkd_ship_{kind}_alone_r18").model_dump()
        assert {k for k in r18 if r18[k] != other[k]} == {"data", "train_split"}
